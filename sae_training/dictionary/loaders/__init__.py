"""Where SAEs come from: a folder, a sae-lens release, a hub repository.

A loader is one module with one function `load(rest: str) -> SAE`, registered under the scheme it
answers to. `load_sae` alone reads addresses, `save_sae` writes the folder format:

- a folder in sae-lens' format: its path, or `folder:PATH`;
- `saelens:RELEASE/SAE_ID`, e.g.
  `saelens:gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical`;
- `hub:ORG/NAME[/PATH]`, a repository that holds such a folder;
- `sparsify:PLACE`, a hookpoint's folder of EleutherAI's sparsify, `dictionary-learning:PLACE`, a
  trainer's folder of dictionary_learning; PLACE is a path, or `hub:ORG/NAME/PATH`;
- `SCHEME:...` of a loader that a plug-in registers.

Left out: guessing. A name that is no folder is never asked of the hub.
"""

import os
from collections.abc import Callable
from pathlib import Path

from feature_store import registry
from feature_store.errors import NotFound, nearest
from feature_store.registry import Registry
from sae_training.dictionary.loaders.folder import save_sae
from sae_training.dictionary.sae import SAE

__all__ = ["EXAMPLES", "load_sae", "save_sae"]

Loader = Callable[[str], SAE]
"""Loads the SAE at what an address says after its scheme."""
LOADERS: Registry[Loader] = registry.of("loaders")
EXAMPLES = (
    "a folder, saelens:RELEASE/SAE_ID, hub:ORG/NAME[/PATH], sparsify:PLACE or"
    " dictionary-learning:PLACE"
)


def load_sae(address: str | Path) -> SAE:
    """Load the SAE at an address.

    Raises NotFound, BadInput or Incompatible, each with one line that says what to do.

        load_sae("saelens:gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical")
    """
    address = str(address)
    if os.path.exists(os.path.expanduser(address)):
        return LOADERS["folder"](address)
    scheme, colon, rest = address.partition(":")
    if not colon:
        raise NotFound(f"There is no SAE folder at {address!r}. Give {EXAMPLES}.")
    schemes = LOADERS.names()
    if scheme not in schemes:
        raise NotFound(
            f"No loader answers to {scheme!r}.{nearest(scheme, schemes)} Give {EXAMPLES}."
        )
    return LOADERS[scheme](rest)
