"""Sparse autoencoders: reading them, and harvesting and evaluating their features."""
