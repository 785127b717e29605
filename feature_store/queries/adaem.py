"""AdAEM: the questions that were tried, and what the members of the population answered."""

from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd

from feature_store.store import Store


@dataclass(frozen=True, kw_only=True)
class OpinionFilter:
    """Which opinions are looked at."""

    stage: Literal["search", "fresh"]
    """`search`: while questions were looked for; `fresh`: when they were asked anew."""
    question: int = -1
    """Number of the question; -1: all questions of the new instrument."""
    member: str = ""
    """Who gave the opinion; empty: everybody."""
    value: str = ""
    """Id of a value that the opinion holds; empty: any."""


def adaem_separation(store: Store, run: str) -> pd.DataFrame:
    """How far questions drive the members apart: the new ones, all seeds, the best seeds."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM adaem_separation WHERE run = ?
        ORDER BY questions <> 'found', questions <> 'seed'""",
        [run],
    )


def adaem_questions(store: Store, run: str) -> pd.DataFrame:
    """Every question that was tried, those of the new instrument first, then by score.

    Each comes with its topic's seed and how many fresh opinions are behind it.
    """
    return store.sql(
        """
        WITH seeds AS (
            SELECT topic, text AS seed_text, fresh AS seed_fresh FROM adaem_questions
            WHERE run = $run AND pull < 0),
        asked AS (
            SELECT question, count(*) FILTER (status = 'parsed') AS opinions,
                count(*) FILTER (status <> 'parsed') AS missing
            FROM adaem_opinions WHERE run = $run AND stage = 'fresh' GROUP BY question)
        SELECT q.* EXCLUDE (run), seed_text, seed_fresh, coalesce(opinions, 0) AS opinions,
            coalesce(missing, 0) AS missing
        FROM adaem_questions q LEFT JOIN seeds USING (topic) LEFT JOIN asked USING (question)
        WHERE q.run = $run
        ORDER BY q.found DESC, q.fresh DESC NULLS LAST, q.score DESC NULLS LAST, q.question""",
        {"run": run},
    )


def adaem_pulls(store: Store, run: str) -> pd.DataFrame:
    """What the bandit chose and what it brought, in order.

    `question` is the best one of a pull, NULL where it brought none.
    """
    return store.sql(
        """
        WITH best AS (
            SELECT pull, arg_max(question, score) AS question FROM adaem_questions
            WHERE run = $run AND pull >= 0 GROUP BY pull)
        SELECT p.* EXCLUDE (run), best.question FROM adaem_pulls p LEFT JOIN best USING (pull)
        WHERE p.run = $run ORDER BY p.pull""",
        {"run": run},
    )


def adaem_members(store: Store, run: str) -> pd.DataFrame:
    """The members of the population, in the order in which they were named."""
    return store.sql("SELECT * EXCLUDE (run) FROM adaem_members WHERE run = ?", [run])


def adaem_ratings(store: Store, run: str) -> pd.DataFrame:
    """Who holds which value most, by value and member."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM adaem_ratings WHERE run = ? ORDER BY value, member", [run]
    )


def adaem_opinions(
    store: Store, run: str, wanted: OpinionFilter, limit: int = 25, offset: int = 0
) -> pd.DataFrame:
    """Single opinions that pass a filter, by question and member; `total` counts all of them."""
    return store.sql(
        """
        SELECT question, member, text, status, held, conformity, coherence, value_difference,
            semantic_difference, kept, seed, count(*) OVER () AS total
        FROM adaem_opinions
        WHERE run = $run AND stage = $stage
            AND (question = $question OR ($question = -1 AND question IN
                (SELECT question FROM adaem_questions WHERE run = $run AND found)))
            AND ($member = '' OR member = $member)
            AND ($value = '' OR list_contains(held, $value))
        ORDER BY question, member, seed LIMIT $limit OFFSET $offset""",
        {"run": run, "limit": limit, "offset": offset, **asdict(wanted)},
    )
