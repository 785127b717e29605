"""SAEs that sae-lens knows by release and id, and SAEs in hub repositories.

1. `saelens:RELEASE/SAE_ID` goes through sae-lens' own registry and converters (Gemma Scope's npz
   among them), so that every release it lists can be adopted. The import takes seconds and is done
   here only.
2. `hub:ORG/NAME[/PATH]` takes the folder at PATH of a repository, through sae-lens as well.
3. What is loaded is turned into our `SAE` by the same function as a folder. The metadata keep
   release, id and neuronpedia_id, so that a study can point back.

Left out: private mirrors; set HF_ENDPOINT and HF_TOKEN as for any Hugging Face client.
"""

import warnings
from typing import Any

from feature_store.errors import BadInput, NotFound, nearest
from feature_store.registry import register
from sae_training.dictionary.loaders.folder import build
from sae_training.dictionary.sae import SAE


@register("loaders", "saelens")
def load_release(address: str) -> SAE:
    """Load a release and id of sae-lens' registry: `RELEASE/SAE_ID`."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, _, sae_id = address.partition("/")
    releases = get_pretrained_saes_directory()
    if release not in releases:
        close = nearest(release, releases)
        # Without a near name all would be listed, and there are dozens.
        close = close if len(close) < 200 else ""
        raise NotFound(
            f"sae-lens knows no release {release!r}.{close} Write saelens:RELEASE/SAE_ID."
        )
    ids = releases[release].saes_map
    if sae_id not in ids:
        close = nearest(sae_id, ids)
        if len(close) >= 200:
            close = f" It has {len(ids)}, such as {next(iter(ids))!r}."
        raise NotFound(f"Release {release!r} has no SAE {sae_id!r}.{close}")
    return _load(release, sae_id, f"saelens:{address}")


@register("loaders", "hub")
def load_repository(address: str) -> SAE:
    """Load a sae-lens folder of a hub repository: `ORG/NAME[/PATH]`."""
    parts = address.split("/")
    if len(parts) < 2 or not all(parts[:2]):
        raise BadInput(f"A hub address is hub:ORG/NAME[/PATH], got hub:{address}.")
    return _load("/".join(parts[:2]), "/".join(parts[2:]) or ".", f"hub:{address}")


def _load(release: str, sae_id: str, where: str) -> SAE:
    """Load through sae-lens, and keep what can stand in JSON of its metadata."""
    from sae_lens import SAE as Foreign

    try:
        with warnings.catch_warnings():
            # Advice on TransformerLens arguments and registry names, not on the weights.
            warnings.simplefilter("ignore")
            foreign, _, _ = Foreign.from_pretrained_with_cfg_and_sparsity(
                release, sae_id, device="cpu"
            )
    # The hub's client and the converters raise dozens of kinds; all mean: not to be had
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise NotFound(
            f"{where} could not be loaded: {reason}. Check the name, the network and HF_TOKEN."
        ) from error
    config: dict[str, Any] = foreign.cfg.to_dict()
    metadata = {key: value for key, value in config["metadata"].items() if _plain(value)}
    metadata |= {"release": release, "sae_id": sae_id}
    return build(config | {"metadata": metadata}, dict(foreign.state_dict()), where)


def _plain(value: Any) -> bool:
    """Say whether a value can stand in JSON."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(entry) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return all(_plain(entry) for entry in value)
    return value is None or isinstance(value, (str, int, float, bool))
