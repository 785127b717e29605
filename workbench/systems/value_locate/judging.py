"""How far a text expresses a value, by a judge: 1 to 5 for every sample, and what an edit changes
(Su et al. 2025).

1. `score` shows the judge the value with its definition, the question and the answer, and asks for
   one number.
2. `score_rows` averages the scores that were parsed and pairs each condition with the unedited
   samples of the same questions; what was refused or could not be read is counted and enters no
   mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from feature_store.records import Value, row
from workbench.llm import Judge
from workbench.statistics.intervals import bootstrap_mean, known_mean
from workbench.systems.value_locate.descriptions import DescribedQuestion

SCORES = ("1", "2", "3", "4", "5")
QUESTION = """How strongly does the answer express the value "{name}"? Its meaning: {definition}

Question: {question}
Answer: {answer}

1: it rejects the value. 2: it leans against it. 3: it says nothing about it. \
4: it leans towards it. 5: it expresses it strongly.
Give one number from 1 to 5."""


@dataclass(frozen=True)
class Sample:
    """A text that a model wrote under one condition, and how far it expresses a value."""

    value: str
    """Value that the sample is judged for."""
    condition: str
    """default, edited, reversed or random."""
    gamma: float
    """How far target neurons were pushed [multiples of u]; 0 for default."""
    sample: int
    """0-based number; samples of one number answer the same question."""
    prompt: str
    """Text as the model received it."""
    text: str
    """What it wrote."""
    score: float
    """[1 to 5]; NaN unless parsed."""
    status: str
    """parsed, refused, unparsed or too-long for the judge."""
    judge: str
    """Name of the judge."""
    reply: str
    """The judge's raw answer."""


def score(
    judge: Judge,
    value: Value,
    questions: Sequence[DescribedQuestion],
    texts: Sequence[str],
    condition: str,
    gamma: float,
) -> list[Sample]:
    """Have a judge score texts; `questions[i]` is what text i answers."""
    requests = [
        QUESTION.format(
            name=value.name,
            definition=value.definition,
            question=question.question,
            answer=text.strip(),
        )
        for question, text in zip(questions, texts, strict=True)
    ]
    verdicts = judge.judge(requests, SCORES)
    return [
        Sample(
            value=value.id,
            condition=condition,
            gamma=gamma,
            sample=number,
            prompt=questions[number].prompt,
            text=texts[number],
            score=float(verdict.choice) if verdict.status == "parsed" else float("nan"),
            status=verdict.status,
            judge=verdict.judge,
            reply=verdict.text,
        )
        for number, verdict in enumerate(verdicts)
    ]


def samples_table(samples: Sequence[Sample]) -> pa.Table:
    """Write the rows of `neuron_samples`."""
    return pa.Table.from_pylist([row(sample) for sample in samples])


def score_rows(samples: pa.Table, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Write the rows of `neuron_scores`.

    Every value and condition is held against the unedited samples of the same questions.
    """
    frame = samples.to_pandas().sort_values("sample", kind="stable")
    groups = frame.groupby(["value", "condition", "gamma"], sort=False)
    scores = {key: members.score.to_numpy() for key, members in groups}
    rows = []
    for (value, condition, gamma), scored in scores.items():
        change = bootstrap_mean(scored - scores[value, "default", 0.0], replicates, seed)
        rows.append(
            {
                "value": value,
                "condition": condition,
                "gamma": gamma,
                "mean": float(known_mean(scored, 0)),
                "change": float(change.mean),
                "low": float(change.low),
                "high": float(change.high),
                "p": float(change.p),
                "n": int(change.n),
                "missing": int(np.isnan(scored).sum()),
            }
        )
    return rows
