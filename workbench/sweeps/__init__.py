"""Sweeps: what is measured while a model is steered, over features, controls and strengths."""
