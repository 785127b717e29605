"""Steering: directions, methods and gates, and the edits of a model's residual stream that they
become."""
