"""Stored responses as conditions that are compared: models, personas, and strengths of one
steering.

1. `marked` says of every response who gave it, `names` calls each by what tells them apart.
2. `conditions` keeps the unsteered answers that two runs share once.
3. `answers` gives every response as one or more answers on the scale, 0 the least agreement. An
   answer in words is what it is; one that was scored by log-probability is drawn from the
   probabilities of the options.
4. `respondents` gives each context's centred scores: contexts as respondents.

Left out: choices among an item's own answers, and free texts. They have no common scale.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.records import Instrument, Run
from workbench.measuring.questions import softmax

MARKS = ("model", "revision", "sae", "persona", "steering")
"""Columns that make two responses those of different conditions."""
CONTENT = ["item", "context", "wording", "order", "seed", "text", "rating"]


def marked(told: pd.DataFrame, of: Mapping[str, Run]) -> pd.DataFrame:
    """Rows of `run`, `steering` and `persona` with the rest of `MARKS`; `of`: profile run by id."""
    return told.assign(
        model=[of[run].config["model"] for run in told.run],
        revision=[of[run].inputs["model"][:7] for run in told.run],
        sae=[
            "" if steering == "base" else of[run].inputs.get("sae", "")
            for run, steering in zip(told.run, told.steering, strict=True)
        ],
    )


def conditions(told: pd.DataFrame) -> pd.DataFrame:
    """The responses with the column `condition`, shared ones once.

    Raises BadInput where two runs answer differently as the same condition.
    """
    kept = []
    for key, part in told.groupby(list(MARKS), sort=False):
        by_run = [own for _, own in part.groupby("run", sort=False)]
        if any(
            own[CONTENT].to_csv(index=False) != by_run[0][CONTENT].to_csv(index=False)
            for own in by_run[1:]
        ):
            raise BadInput(
                f"{by_run[0].run.iloc[0]} and {by_run[1].run.iloc[0]} both answer as {key[0]},"
                f" {key[4]}, under other questions or seeds. Leave one out."
            )
        kept.append(by_run[0])
    found = pd.concat(kept, ignore_index=True)
    return found.assign(condition=names(found))


def names(found: pd.DataFrame) -> pd.Series:
    """The condition of every row, called by those of `MARKS` that differ."""
    vary = [mark for mark in ("model", "persona") if found[mark].nunique() > 1]
    named = [*vary, "steering"] if found.steering.nunique() > 1 or not vary else vary
    for more in (
        None,
        "revision",
        "sae",
    ):  # two revisions of a model, or features of two SAEs, have the same name otherwise
        named = named if more is None else [*named, more]
        called = (
            found[named]
            .replace("", np.nan)
            .agg(lambda row: ", ".join(row.dropna()) or "no persona", axis=1)
        )
        if len({*zip(called, *(found[mark] for mark in MARKS), strict=True)}) == called.nunique():
            break
    return called


def answers(told: pd.DataFrame, instrument: Instrument, least: int, seed: int) -> pd.DataFrame:
    """Parsed responses to items of one value, one row an answer, with the column `answer`;
    `least` answers an item and condition where they are drawn.
    """
    keys, n = {item.id: item.key for item in instrument.items}, len(instrument.options)
    told = told[(told.status == "parsed") & (told.value != "")]
    drawn = told.logprobs.map(len).to_numpy() > 0
    words = told[~drawn]
    words = words.assign(answer=np.rint(words.rating).astype(int) - 1)
    scored = told[drawn]
    if not len(scored):
        return words
    numbered = all(option.isdigit() for option in instrument.options)
    turned = ((scored.order == "descending") & numbered).to_numpy() != (
        scored.item.map(keys) < 0
    ).to_numpy()
    shares = softmax(np.stack(scored.logprobs.to_numpy()))
    shares = np.where(turned[:, None], shares[:, ::-1], shares)
    times = np.ceil(
        least / scored.groupby(["condition", "item"], sort=False).item.transform("size")
    ).to_numpy(int)
    row = np.repeat(np.arange(len(scored)), times)
    point = np.random.default_rng((seed, 11)).random(len(row))
    answer = (point[:, None] > np.cumsum(shares, axis=1)[row, : n - 1]).sum(1)
    return pd.concat([words, scored.iloc[row].assign(answer=answer)], ignore_index=True)


def respondents(told: pd.DataFrame, values: tuple[str, ...]) -> Float[np.ndarray, "context value"]:
    """Mean rating of each value less the mean of all, in each context of one condition; NaN
    where nothing was parsed.
    """
    parsed = told[told.status == "parsed"]
    table = parsed.pivot_table("rating", "context", "value", "mean").reindex(columns=values)
    return table.sub(parsed.groupby("context").rating.mean(), axis=0).to_numpy(float)
