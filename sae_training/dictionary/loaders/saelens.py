"""SAEs that sae-lens knows by release and id, and SAEs in hub repositories.

1. `saelens:RELEASE/SAE_ID` goes through sae-lens' own registry and converters (Gemma Scope's npz
   among them), so that every release it lists can be adopted. The import takes seconds and is done
   here only.
2. `hub:ORG/NAME[/PATH]` takes the folder at PATH of a repository, through sae-lens as well.
3. What is loaded is turned into our `SAE` by the same functions as a folder. The metadata keep
   release, id and neuronpedia_id, so that a study can point back.
4. What the registry says of a release beside its files counts: its overrides (that the writing
   weights of `gpt2-small-res-jb`'s model were centred), and the L0 and explained variance that it
   states.

Left out: private mirrors; set HF_ENDPOINT and HF_TOKEN as for any Hugging Face client.
"""

import warnings
from typing import Any

from feature_store.errors import BadInput, NotFound, nearest
from feature_store.registry import register
from sae_training.dictionary.claims import Claims, of_metadata
from sae_training.dictionary.configuration import OF_THE_MODEL, understand
from sae_training.dictionary.loaders.folder import FORMATS, Described, build, check
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
    content: dict[str, Any] = foreign.cfg.to_dict()
    metadata = {key: value for key, value in content["metadata"].items() if _plain(value)}
    metadata |= _overrides(*_registered(release, sae_id))
    metadata |= {"release": release, "sae_id": sae_id}
    config = understand(content | {"metadata": metadata}, where)
    weights = dict(foreign.state_dict())
    described = {
        name: Described(tuple(tensor.shape), FORMATS.get(tensor.dtype, str(tensor.dtype)))
        for name, tensor in weights.items()
    }
    check(config, described, where)
    return build(config, weights, where, _claims(*_registered(release, sae_id), metadata))


def _registered(release: str, sae_id: str) -> tuple[str, str]:
    """Find release and id under which the registry lists an SAE that is named by its repository.

    Two releases may list one; the first says as much as the others.
    """
    from sae_lens.loading.pretrained_saes_directory import (
        get_pretrained_saes_directory,
        get_releases_for_repo_id,
    )

    releases = get_pretrained_saes_directory()
    for name in get_releases_for_repo_id(release):
        for known_id, path in releases[name].saes_map.items():
            if path == sae_id:
                return name, known_id
    return release, sae_id


def _overrides(release: str, sae_id: str) -> dict[str, Any]:
    """Look up what the registry says of a release's activations, whatever its files say."""
    from sae_lens.loading.pretrained_saes_directory import get_config_overrides

    overrides = get_config_overrides(release, sae_id)
    return {
        name: value
        for name, value in overrides.items()
        if name in OF_THE_MODEL and value is not None
    }


def _claims(release: str, sae_id: str, metadata: dict[str, Any]) -> Claims:
    """Look up the figures that the registry states of an SAE, or else its metadata."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    stated = of_metadata(metadata)
    known = get_pretrained_saes_directory().get(release)
    if known is None:
        return stated
    l0, explained = known.expected_l0.get(sae_id), known.expected_var_explained.get(sae_id)
    # sae-lens fills what is not stated with 0 active features and all variance explained.
    return Claims(
        l0=float(l0) if l0 else stated.l0,
        fvu=1 - float(explained) if explained not in (None, 1.0) else stated.fvu,
    )


def _plain(value: Any) -> bool:
    """Say whether a value can stand in JSON."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(entry) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return all(_plain(entry) for entry in value)
    return value is None or isinstance(value, (str, int, float, bool))
