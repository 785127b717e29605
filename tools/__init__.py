"""Programs for those who work on this repository: `python -m tools.write_docs`."""
