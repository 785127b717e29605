"""A model, read and hooked: sites, loading, edits of the residual stream, tokens and spans."""
