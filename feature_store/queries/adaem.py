"""AdAEM: the questions that were found, and what the members answered."""

import pandas as pd

from feature_store.store import Store


def adaem_separation(store: Store, run: str) -> pd.DataFrame:
    """Instruments, AdAEM: how far the found questions and the seeds drive the members apart; found, all seeds, best seeds."""
    return store.sql("SELECT * EXCLUDE (run) FROM adaem_separation WHERE run = ? ORDER BY questions <> 'found', questions <> 'seed'", [run])


def adaem_questions(store: Store, run: str) -> pd.DataFrame:
    """Instruments, AdAEM: every question that was tried, with its topic's seed and how many fresh opinions are behind it; found ones first, then by score."""
    return store.sql(
        "WITH seeds AS (SELECT topic, text AS seed_text, fresh AS seed_fresh FROM adaem_questions WHERE run = $run AND pull < 0), "
        "asked AS (SELECT question, count(*) FILTER (status = 'parsed') AS opinions, count(*) FILTER (status <> 'parsed') AS missing FROM adaem_opinions "
        "WHERE run = $run AND stage = 'fresh' GROUP BY question) "
        "SELECT q.* EXCLUDE (run), seed_text, seed_fresh, coalesce(opinions, 0) AS opinions, coalesce(missing, 0) AS missing "
        "FROM adaem_questions q LEFT JOIN seeds USING (topic) LEFT JOIN asked USING (question) WHERE q.run = $run "
        "ORDER BY q.found DESC, q.fresh DESC NULLS LAST, q.score DESC NULLS LAST, q.question",
        {"run": run},
    )


def adaem_pulls(store: Store, run: str) -> pd.DataFrame:
    """Instruments, AdAEM: what the bandit chose and what it brought, in order; `question` is the best of a pull, NULL without any."""
    return store.sql(
        "SELECT p.* EXCLUDE (run), q.question FROM adaem_pulls p LEFT JOIN (SELECT pull, arg_max(question, score) AS question FROM adaem_questions "
        "WHERE run = $run AND pull >= 0 GROUP BY pull) q USING (pull) WHERE p.run = $run ORDER BY p.pull",
        {"run": run},
    )


def adaem_members(store: Store, run: str) -> pd.DataFrame:
    """Instruments, AdAEM: who was to be told apart, as they were named."""
    return store.sql("SELECT * EXCLUDE (run) FROM adaem_members WHERE run = ?", [run])


def adaem_ratings(store: Store, run: str) -> pd.DataFrame:
    """Instruments, AdAEM: who holds which value most, by value and member."""
    return store.sql("SELECT * EXCLUDE (run) FROM adaem_ratings WHERE run = ? ORDER BY value, member", [run])


def adaem_opinions(
    store: Store, run: str, stage: str, question: int = -1, member: str = "", value: str = "", limit: int = 25, offset: int = 0
) -> pd.DataFrame:
    """Instruments, AdAEM: single opinions of a stage, by question and member; `total` counts all.

    `question` -1: those on all found questions; `member` empty: of all; `value` empty: whatever they hold.
    """
    return store.sql(
        "SELECT question, member, text, status, held, conformity, coherence, value_difference, semantic_difference, kept, seed, count(*) OVER () AS total "
        "FROM adaem_opinions WHERE run = $run AND stage = $stage AND (question = $question OR ($question = -1 AND question IN "
        "(SELECT question FROM adaem_questions WHERE run = $run AND found))) AND ($member = '' OR member = $member) "
        "AND ($value = '' OR list_contains(held, $value)) ORDER BY question, member, seed LIMIT $limit OFFSET $offset",
        {"run": run, "stage": stage, "question": question, "member": member, "value": value, "limit": limit, "offset": offset},
    )
