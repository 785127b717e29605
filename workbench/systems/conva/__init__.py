"""Controlled value vector activation (Jin et al. 2025): the smallest shift along a probe's
normal, and what it does."""
