"""What the machine sees: models, sites, the steering engine, sparse autoencoders, harvest. May import `feature_store`."""

from sae_training import memory

memory.keep()
