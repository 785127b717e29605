"""COUPLE (Guo et al. 2025): counterfactual reasoning that rewrites answers towards a value
profile."""
