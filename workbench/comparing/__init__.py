"""Who differs from whom: subjects, conditions, steering methods, contrasts and the validity of
instruments."""
