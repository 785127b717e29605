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

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.records import Instrument, Run
from workbench.measuring.questions import softmax

MARKS = ("model", "revision", "sae", "persona", "steering")
"""Columns that make two responses those of different conditions."""
CONTENT = ["item", "context", "wording", "order", "seed", "text", "rating"]
"""Columns that two runs share where they answered as the same condition."""


def marked(responses: pd.DataFrame, runs: Mapping[str, Run]) -> pd.DataFrame:
    """Say of every response which model gave it, at which revision, steered by which SAE.

    `responses` has the columns `run`, `steering` and `persona`; `runs` gives the profile run of
    every id in `run`. The rest of `MARKS` is added.
    """
    saes = []
    for run, steering in zip(responses.run, responses.steering, strict=True):
        saes.append("" if steering == "base" else runs[run].inputs.get("sae", ""))
    return responses.assign(
        model=[runs[run].config["model"] for run in responses.run],
        revision=[_revision(runs[run]) for run in responses.run],
        sae=saes,
    )


def _revision(run: Run) -> str:
    """Give the first letters of the revision that a run pins, and the day where it pins one."""
    revision, on, day = run.inputs["model"].partition(" on ")
    return revision[:7] + on + day


def conditions(responses: pd.DataFrame) -> pd.DataFrame:
    """Give marked responses the column `condition`, and keep those once that two runs share.

    Raises BadInput where two runs answer differently as the same condition.
    """
    parts = []
    for key, part in responses.groupby(list(MARKS), sort=False):
        by_run = [of_run for _, of_run in part.groupby("run", sort=False)]
        contents = [of_run[CONTENT].to_csv(index=False) for of_run in by_run]
        if len(set(contents)) > 1:
            raise BadInput(
                f"{by_run[0].run.iloc[0]} and {by_run[1].run.iloc[0]} both answer as {key[0]},"
                f" {key[4]}, under other questions or seeds. Leave one out."
            )
        parts.append(by_run[0])
    distinct = pd.concat(parts, ignore_index=True)
    return distinct.assign(condition=names(distinct))


def names(responses: pd.DataFrame) -> pd.Series:
    """Name the condition of every row by those of `MARKS` that differ."""
    columns = [mark for mark in ("model", "persona") if responses[mark].nunique() > 1]
    if responses.steering.nunique() > 1 or not columns:
        columns.append("steering")
    marks = [responses[mark] for mark in MARKS]
    named = _joined(responses[columns])
    # Two revisions of a model, or features of two SAEs, have the same name otherwise.
    for column in ("revision", "sae"):
        if len({*zip(named, *marks, strict=True)}) == named.nunique():
            break
        columns.append(column)
        named = _joined(responses[columns])
    return named


def _joined(columns: pd.DataFrame) -> pd.Series:
    """Join what is not empty in each row by commas."""
    filled = columns.replace("", np.nan)
    return filled.agg(lambda row: ", ".join(row.dropna()) or "no persona", axis=1)


def answers(responses: pd.DataFrame, instrument: Instrument, least: int, seed: int) -> pd.DataFrame:
    """Give parsed responses to items of one value as answers on the scale, one row an answer.

    The column `answer` is 0-based, least agreement first. Answers that were scored by
    log-probability are drawn from the options' probabilities, at least `least` of them an item and
    condition.
    """
    counted = responses[(responses.status == "parsed") & (responses.value != "")]
    has_logprobs = counted.logprobs.map(len).to_numpy() > 0
    written = counted[~has_logprobs]
    written = written.assign(answer=np.rint(written.rating).astype(int) - 1)
    scored = counted[has_logprobs]
    if not len(scored):
        return written
    shares = _shares(scored, instrument)
    sizes = scored.groupby(["condition", "item"], sort=False).item.transform("size")
    times = np.ceil(least / sizes).to_numpy(int)
    row = np.repeat(np.arange(len(scored)), times)
    point = np.random.default_rng((seed, 11)).random(len(row))
    inner = len(instrument.options) - 1
    answer = (point[:, None] > np.cumsum(shares, axis=1)[row, :inner]).sum(1)
    return pd.concat([written, scored.iloc[row].assign(answer=answer)], ignore_index=True)


def _shares(scored: pd.DataFrame, instrument: Instrument) -> Float[np.ndarray, "row option"]:
    """Give the probability of each option, least agreement first whichever way it was asked."""
    keys = {item.id: item.key for item in instrument.items}
    numbered = all(option.isdigit() for option in instrument.options)
    is_reversed = (scored.item.map(keys) < 0).to_numpy()
    is_turned = ((scored.order == "descending") & numbered).to_numpy() != is_reversed
    shares = softmax(np.stack(scored.logprobs.to_numpy()))
    return np.where(is_turned[:, None], shares[:, ::-1], shares)


def respondents(
    responses: pd.DataFrame, values: Sequence[str]
) -> Float[np.ndarray, "context value"]:
    """Give each context's mean rating of every value less that of all values, in one condition.

    NaN where nothing was parsed.
    """
    parsed = responses[responses.status == "parsed"]
    table = parsed.pivot_table("rating", "context", "value", "mean").reindex(columns=list(values))
    return table.sub(parsed.groupby("context").rating.mean(), axis=0).to_numpy(float)
