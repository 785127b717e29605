"""Value neurons (Su et al. 2025, ValueLocate), on MLP neurons and on SAE features.

`descriptions` writes as whom a model answers, `locate` chooses neurons, `experiment` runs the
model, `effects` turns what it measured into intervals, `judging` scores samples. The verb is
`workbench/verbs/neurons.py`.
"""
