"""What a model writes under each arm of a comparison, kept chunk by chunk, and what a rater says of
it.

1. Every opening is continued unsteered and under every arm, sampled; opening k draws with its own
   seed, so that the texts of two arms differ by the arm alone as long as they can.
2. The unsteered model's loss on each text, after the opening alone, says how strange the text is to
   the model as it was.
3. Ratings come when all is written: fluency may be judged beside the model's own texts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from feature_store.progress import Progress, StageProgress, missing_parts, stage
from feature_store.records import ValueSystem
from feature_store.work import Work
from workbench.sweeps.arms import PlannedArm
from workbench.sweeps.ratings import ASPECTS, Rater
from workbench.sweeps.sweep import EditedModel
from workbench.sweeps.value_prompts import before

if TYPE_CHECKING:
    from sae_training.engine.model import Model

CHUNK = 24
"""Arms at a strength written between two checkpoints."""


class Openings(NamedTuple):
    """What is continued under every arm, and how."""

    texts: Sequence[str]
    """Beginnings of texts, or questions."""
    new_tokens: int
    """Longest continuation [tokens]."""
    seed: int
    """Opening k is sampled with seed + k under every arm."""


def write(
    work: Work,
    edited: EditedModel,
    planned: Sequence[PlannedArm],
    openings: Openings,
    progress: Progress,
) -> pa.Table:
    """Continue every opening unsteered and under every arm; give rows of `arm_texts`.

    Ratings are not in them yet. Intervention -1 is unsteered; row i of the edit is `planned[i]`.
    Chunks that an earlier, interrupted call kept are not written again.
    """
    parts = np.split(np.arange(-1, len(planned)), np.arange(1, len(planned) + 1, CHUNK))
    n, shown = len(openings.texts), stage(progress, "writing")
    for part, rows, part_shown in missing_parts(work.done("arm_texts"), parts, shown):
        before_opening = [planned[row].prompt if row >= 0 else "" for row in rows]
        prompts = [
            before(prompt, opening) for prompt in before_opening for opening in openings.texts
        ]
        texts = _continue(edited, rows, prompts, openings, part_shown)
        columns = {
            "intervention": np.repeat(rows.astype(np.int32), n),
            "opening": np.tile(np.arange(n, dtype=np.int32), len(rows)),
            "prompt": prompts,
            "text": texts,
            "loss": losses(edited.model, list(openings.texts) * len(rows), texts),
        }
        work.part("arm_texts", part, pa.table(columns))
    return work.parts("arm_texts")


def _continue(
    edited: EditedModel,
    rows: np.ndarray,
    prompts: Sequence[str],
    openings: Openings,
    progress: StageProgress,
) -> list[str]:
    """Sample a continuation of every prompt, the openings of one row of the edit after another.

    Row -1, which comes alone, is the unsteered model.
    """
    import torch

    n = len(openings.texts)
    seeds = [openings.seed + k for k in range(n)] * len(rows)
    if rows[0] < 0:
        return edited.model.generate(prompts, openings.new_tokens, 1.0, seeds, progress)
    part = edited.edit.take(torch.tensor(rows).repeat_interleave(n))
    with edited.model.steered(part, edited.site):
        return edited.model.generate(prompts, openings.new_tokens, 1.0, seeds, progress)


def losses(
    model: "Model", openings: Sequence[str], texts: Sequence[str]
) -> Float[np.ndarray, " text"]:
    """Compute the unsteered model's mean loss on each text after its opening [nats per token].

    NaN for an empty text.
    """
    from sae_training.engine.losses import loss_after

    distinct = list(dict.fromkeys(openings))
    prefixes = dict(zip(distinct, model.tokenize(distinct, prompt=True), strict=True))
    # A text goes on after its opening, so its tokens begin without those that open a text.
    before = len(model.before)
    tokens = [ids[before:] for ids in model.tokenize(list(texts))]
    return loss_after(model, [prefixes[opening] for opening in openings], tokens).double().numpy()


def rate(
    written: pa.Table,
    planned: Sequence[PlannedArm],
    openings: Sequence[str],
    rater: Rater,
    system: ValueSystem,
) -> Float[np.ndarray, "intervention opening aspect"]:
    """Rate all steered texts [0 to 2]; NaN where the judge was not read.

    `written` are the rows of `write`, the unsteered texts first.
    """
    n = len(openings)
    texts = written["text"].to_pylist()[n:]
    text_losses = written["loss"].to_numpy()[n:]
    values = [system[arm.value] for arm in planned for _ in openings]
    ratings = rater.rate(values, list(openings) * len(planned), texts, text_losses)
    return ratings.reshape(len(planned), n, -1)


def rows(written: pa.Table, ratings: Float[np.ndarray, "intervention opening aspect"]) -> pa.Table:
    """Lay out texts and their ratings as rows of `arm_texts`; unsteered texts have no rating."""
    unsteered = np.full((1, *ratings.shape[1:]), np.nan)
    columns = np.concatenate([unsteered, ratings]).reshape(-1, ratings.shape[2]).T
    for name, column in zip(ASPECTS, columns, strict=True):
        written = written.append_column(name, pa.array(column))
    return written
