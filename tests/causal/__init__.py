"""Tests of effects, graphs, prediction, plans and comparisons."""
