"""The steering engine: generate, score and sweep a model, steered or not."""
