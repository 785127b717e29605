"""What a model writes under each arm of a comparison, kept chunk by chunk, and what a rater says of
it.

1. Every opening is continued unsteered and under every arm, sampled; opening k draws with its own
   seed, so that the texts of two arms differ by the arm alone as long as they can.
2. The unsteered model's loss on each text, after the opening alone, says how strange the text is to
   the model as it was.
3. Ratings come when all is written: fluency may be judged beside the model's own texts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from feature_store.progress import Progress
from feature_store.records import Point, Site, ValueSystem
from feature_store.runs import Work
from workbench.sweeps.arms import Planned
from workbench.sweeps.ratings import Rater
from workbench.sweeps.value_prompts import before

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit

CHUNK = 24
"""Arms at a strength written between two checkpoints."""


def write(
    work: Work,
    model: "Model",
    edit: "Edit",
    layer: int,
    point: Point,
    planned: Sequence[Planned],
    openings: Sequence[str],
    new_tokens: int,
    seed: int,
    progress: Progress,
) -> pa.Table:
    """Rows of `arm_texts` without ratings, intervention by intervention; -1 is unsteered.

    Row i of `edit` is `planned[i]`.
    """
    import torch

    done, numbers = work.done("arm_texts"), np.arange(-1, len(planned))
    for part, some in enumerate(np.split(numbers, np.arange(1, len(numbers), CHUNK))):
        if part not in done:
            prompts = [
                before(planned[k].prompt if k >= 0 else "", opening)
                for k in some
                for opening in openings
            ]
            seeds = [seed + k for _ in some for k in range(len(openings))]
            if part == 0:
                texts = model.generate(prompts, new_tokens, 1.0, seeds)
            else:
                rows = torch.tensor(some).repeat_interleave(len(openings))
                with model.steered(edit.take(rows), Site(layer, point)):
                    texts = model.generate(prompts, new_tokens, 1.0, seeds)
            work.part(
                "arm_texts",
                part,
                pa.table(
                    {
                        "intervention": np.repeat(some.astype(np.int32), len(openings)),
                        "opening": np.tile(np.arange(len(openings), dtype=np.int32), len(some)),
                        "prompt": prompts,
                        "text": texts,
                        "loss": losses(model, list(openings) * len(some), texts),
                    }
                ),
            )
        progress("writing", int(some[-1]) + 2, len(numbers))
    return work.parts("arm_texts")


def losses(
    model: "Model", openings: Sequence[str], texts: Sequence[str]
) -> Float[np.ndarray, " text"]:
    """The unsteered model's mean loss on each text after its opening [nats per token]; NaN for
    an empty text.
    """
    from sae_training.engine.losses import loss_after

    known = dict(
        zip(
            dict.fromkeys(openings),
            model.tokenize(list(dict.fromkeys(openings)), prompt=True),
            strict=True,
        )
    )
    own = [ids[ids[:1] == [model.first_token] :] for ids in model.tokenize(list(texts))]
    return loss_after(model, [known[opening] for opening in openings], own).double().numpy()


def rate(
    written: pa.Table,
    planned: Sequence[Planned],
    openings: Sequence[str],
    rater: Rater,
    system: ValueSystem,
) -> Float[np.ndarray, "intervention opening aspect"]:
    """Ratings of all steered texts [0 to 2]; NaN where the judge was not read."""
    texts, losses = (
        written["text"].to_pylist()[len(openings) :],
        written["loss"].to_numpy()[len(openings) :],
    )
    values = [system[one.value] for one in planned for _ in openings]
    found = rater.rate(values, list(openings) * len(planned), texts, losses)
    return found.reshape(len(planned), len(openings), -1)


def rows(written: pa.Table, ratings: Float[np.ndarray, "intervention opening aspect"]) -> pa.Table:
    """The relation `arm_texts`: what was written and how it was rated; the unsteered texts are
    not.
    """
    whole = np.concatenate([np.full((1, *ratings.shape[1:]), np.nan), ratings]).reshape(
        -1, ratings.shape[2]
    )
    for name, column in zip(("concept", "instruct", "fluency"), whole.T, strict=True):
        written = written.append_column(name, pa.array(column))
    return written
