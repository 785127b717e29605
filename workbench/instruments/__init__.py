"""Instruments: what measures values, one file or folder each.

A plug-in is registered under kind `instruments` and is a `Questionnaire`
(`workbench/measuring/questionnaire.py`, where `INSTRUMENTS` lists them).
"""
