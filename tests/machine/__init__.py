"""Tests of the floor `sae_training`: models, the engine, SAEs, training."""
