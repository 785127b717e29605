"""What sae-lens' registry has for a model, offline: releases, their SAEs, and the address of each.

1. The registry is a file of the package (`pretrained_saes.yaml`), read by sae-lens' own function.
   The import takes seconds and is done here only.
2. A model is found by the registry's name or by its hub id: `gemma-2-2b`, `google/gemma-2-2b`.
3. `reads` says what the SAEs of a release read, judged by names and converter: the registry does
   not say it. Those of the residual stream come first, since `adopt` takes no others.

Left out: what lies on the hub and is not in the registry.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from feature_store.errors import NotFound, nearest

RESIDUAL = "residual stream"
PLACES = (
    ("transcoder", "transcoders"),
    ("clt", "transcoders"),
    ("temporal", "temporal SAEs"),
    ("crosscoder", "crosscoders"),
    ("hook_z", "attention heads"),
    ("attn", "attention"),
    ("-att", "attention"),
    ("mlp", "MLPs"),
    ("resid_mid", "residual within a layer"),
    ("resid-mid", "residual within a layer"),
)
"""Part of a name or converter -> what the SAEs of the release read, the first that fits."""


@dataclass(frozen=True, kw_only=True)
class ReleasedSAE:
    """One SAE of a release."""

    id: str
    """Its id within the release, such as `layer_20/width_16k/canonical`."""
    address: str
    """What `workbench adopt` takes: `saelens:RELEASE/SAE_ID`."""
    l0: float | None
    """Active features a token, as its makers state [features]; None: not stated."""
    neuronpedia: str
    """Its name at Neuronpedia, `MODEL/SOURCE`; empty: it has none."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """SAEs of one model that were published together."""

    name: str
    """Its name in the registry."""
    model: str
    """Name of the model, as the registry writes it."""
    repository: str
    """Repository on the hub."""
    reads: str
    """What its SAEs read; `residual stream`: `adopt` takes them."""
    saes: tuple[ReleasedSAE, ...]
    """In the registry's order."""


def releases() -> list[Release]:
    """List every release of the registry, by name."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return [
        Release(
            name=name,
            model=entry.model,
            repository=entry.repo_id,
            reads=_reads(name, str(entry.conversion_func), list(entry.saes_map)),
            saes=tuple(
                ReleasedSAE(
                    id=id,
                    address=f"saelens:{name}/{id}",
                    l0=entry.expected_l0.get(id) or None,
                    neuronpedia=entry.neuronpedia_id.get(id) or "",
                )
                for id in entry.saes_map
            ),
        )
        for name, entry in sorted(get_pretrained_saes_directory().items())
    ]


def releases_of(model: str) -> list[Release]:
    """List the releases for a model, those of the residual stream first.

    Raises NotFound with the nearest name where the registry has none.

        releases_of("google/gemma-2-2b")[0].saes[0].address
    """
    every = releases()
    wanted = _short(model)
    matching = [release for release in every if _short(release.model) == wanted]
    if not matching:
        names = {_short(release.model) for release in every}
        raise NotFound(
            f"sae-lens' registry has no SAE of {model!r}.{nearest(wanted, names)} `workbench saes`"
            " lists its models."
        )
    return sorted(matching, key=lambda release: (release.reads != RESIDUAL, release.name))


def release_named(name: str) -> Release:
    """Give the release of that name. Raises NotFound with the nearest one."""
    by_name = {release.name: release for release in releases()}
    if name not in by_name:
        raise NotFound(
            f"sae-lens' registry has no release {name!r}.{nearest(name, by_name)} `workbench saes"
            " --model` lists those of a model."
        )
    return by_name[name]


def _short(model: str) -> str:
    """Give a model's name without its organisation, in small letters."""
    return model.rpartition("/")[2].casefold()


def _reads(name: str, converter: str, ids: Sequence[str]) -> str:
    """Judge what the SAEs of a release read."""
    words = " ".join((name, converter, *ids[:1])).casefold()
    return next((place for part, place in PLACES if part in words), RESIDUAL)
