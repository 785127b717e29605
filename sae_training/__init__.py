"""What the machine sees: models, sites, the steering engine, sparse autoencoders, harvest.

It may import `feature_store`.
"""

from sae_training import process

process.keep_memory()
process.wait_briefly()
