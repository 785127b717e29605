"""The causal value graph of Kang et al. (2025): roles are interviewed, and PC reads a graph from
their scores."""
