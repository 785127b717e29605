"""Statistics that know nothing of models: intervals, the ordinal regression, the circle of
values."""
