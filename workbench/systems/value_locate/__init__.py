"""Value neurons (Su et al. 2025, ValueLocate), on MLP neurons and on SAE features.

`descriptions` writes what a model is told, `locate` chooses neurons, `experiment` runs the model,
`effects` turns what it measured into intervals, `judging` scores samples. The verb is
`workbench/verbs/neurons.py`.
"""
