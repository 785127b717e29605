"""Describe all features of an SAE: which tokens they promote, which features are nearest, and which
are active together.

1. What each feature writes straight into the logits (`sae_training/dictionary/footprint.py`): the
   tokens that it promotes and suppresses, and the shape of all its logits.
2. The features whose decoder rows point the same way, beside as many random rows.
3. The features that are active on the same tokens (`features/coactivation.py`).

No text is read again: weights say the first two, the activations that the SAE's run keeps the
third. Blocks of features that an interrupted call finished are not computed again. What a model or
a run does not give is said in one line, and its relations stay empty.

Left out: contexts; the harvest keeps the strongest, and samples from all quantiles.
"""

import dataclasses
import warnings
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa

from feature_store.bounds import Between, Count, Seed
from feature_store.errors import Incompatible
from feature_store.progress import Progress, stage
from feature_store.records import Run
from feature_store.work import Work
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model

ALL_KEPT = 0.999
"""Share of the activations from which on none are missing [0 to 1]."""


@dataclasses.dataclass(frozen=True)
class DescribeSettings:
    """Of which SAE features are described, and how much of each is kept."""

    sae: str = "latest"
    """Run of the SAE."""
    top: Annotated[int, Between(1, 1000)] = 10
    """Tokens of each side, nearest features, and partners by each measure that are kept of every
    feature."""
    least: Count = 5
    """Fewest tokens on which two features are active together [tokens]; fewer say nothing."""
    seed: Seed = 0
    """Seed of the random directions that logits and nearest features are held against."""


def run(study: Workspace, settings: DescribeSettings, progress: Progress) -> Run:
    """Make a run of kind `descriptions`."""
    sae_run = study.resolve("sae", settings.sae)
    pinned = dataclasses.replace(settings, sae=sae_run.id)
    build = partial(_describe, study, pinned, sae_run, progress)
    return study.make("descriptions", pinned, {"sae": sae_run.id}, build)


def _describe(
    study: Workspace, settings: DescribeSettings, sae_run: Run, progress: Progress, work: Work
) -> dict[str, Any]:
    """Write the four relations, and return the run's figures."""
    model, sae = study.model_of(sae_run), study.sae(sae_run)
    sae.check_fits(model)
    return {
        "n_features": sae.n_features,
        **_write_footprints(work, model, sae, settings, progress),
        **_write_neighbours(work, sae, settings, progress),
        **_write_coactivations(work, study, settings, sae_run, progress),
    }


def _write_footprints(
    work: Work, model: "Model", sae: "SAE", settings: DescribeSettings, progress: Progress
) -> dict[str, Any]:
    """Write `token_logits` and `logit_shapes`; empty where the model's end is not linear."""
    from sae_training.dictionary.footprint import Footprints
    from sae_training.model.unembedding import unembedding

    try:
        read = unembedding(model)
    except Incompatible as error:
        why = f"{error} No tokens are promoted or suppressed here."
        warnings.warn(why, stacklevel=2)
        work.table("token_logits", [])
        work.table("logit_shapes", [])
        return {"final_norm": "", "no_tokens": why}
    footprints = Footprints(model, read, sae, settings.top)
    done = work.done("token_logits", "logit_shapes")
    for number, start in enumerate(footprints.blocks):
        if number not in done:
            block = footprints.of(start)
            work.part("token_logits", number, block.token_logits)
            work.part("logit_shapes", number, block.logit_shapes)
        progress("promoted tokens", number + 1, len(footprints.blocks))
    for relation in ("token_logits", "logit_shapes"):
        work.stream(relation, _kept(work, relation))
    null = footprints.null(settings.seed)
    return {
        "final_norm": read.norm,
        "soft_cap": read.cap,
        "null_peak": null.peak,
        "null_kurtosis": null.kurtosis,
    }


def _write_neighbours(
    work: Work, sae: "SAE", settings: DescribeSettings, progress: Progress
) -> dict[str, Any]:
    """Write `decoder_neighbours`, and say how many features have one nearer than chance."""
    from sae_training.dictionary.footprint import DecoderNeighbours

    neighbours = DecoderNeighbours(sae, settings.top, settings.seed)
    done = work.done("decoder_neighbours")
    for number, start in enumerate(neighbours.blocks):
        if number not in done:
            work.part("decoder_neighbours", number, neighbours.of(start))
        progress("nearest features", number + 1, len(neighbours.blocks))
    nearer = 0
    for block in _kept(work, "decoder_neighbours"):
        nearest = block.to_pandas().query("rank == 0")
        nearer += int((nearest.cosine > nearest.null_high).sum())
    work.stream("decoder_neighbours", _kept(work, "decoder_neighbours"))
    return {"nearer_than_chance": nearer}


def _write_coactivations(
    work: Work, study: Workspace, settings: DescribeSettings, sae_run: Run, progress: Progress
) -> dict[str, Any]:
    """Write `coactivations`; empty where the SAE's run holds no activations."""
    from workbench.features.coactivation import TokenSets

    rows = study.store.sql(
        "SELECT feature, document, position FROM activations WHERE run = ? ORDER BY feature",
        [sae_run.id],
    )
    share = float(sae_run.summary.get("activations_kept", 1.0))
    if rows.empty:
        why = f"{sae_run.id} keeps no activations: no features are active together here."
        warnings.warn(why, stacklevel=2)
        work.table("coactivations", [])
        return {"activations_kept": 0.0, "no_partners": why}
    if share < ALL_KEPT:
        warnings.warn(
            f"{sae_run.id} keeps {share:.1%} of its activations, all features of a token together:"
            " tokens on which features are active together are counted among these.",
            stacklevel=2,
        )
    n_features = int(sae_run.summary["n_features"])
    sets = TokenSets.of(rows, n_features, share * sae_run.summary["tokens"])
    del rows  # as large as the matrix
    reported = stage(progress, "features active together")
    work.stream("coactivations", sets.partners(settings.top, settings.least, reported))
    return {"activations_kept": share, "tokens": round(sets.tokens)}


def _kept(work: Work, relation: str) -> Iterator[pa.Table]:
    """Give the parts of a relation in their order, one at a time."""
    for number in sorted(work.done(relation)):
        yield work.kept(relation, number)
