"""Training sparse autoencoders: streams of activations, engines, checkpoints."""
