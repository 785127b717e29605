"""What instruments tell beyond a profile: ordinal regressions, moral dilemmas step by step, questions found by AdAEM."""

from collections.abc import Sequence

import pandas as pd

from feature_store.store import Store

_QUESTION = 'p.run = r.run AND p.context = r.context AND p.item = r.item AND p.wording = r.wording AND p."order" = r."order"'


def subject_names(store: Store, profiles: Sequence[str]) -> pd.DataFrame:
    """Instruments: how contrasts call the steerings of these profile runs (`power+`), by steering."""
    return store.sql(
        "SELECT DISTINCT profile, steering, subject FROM subjects WHERE profile IN (SELECT unnest(?)) ORDER BY steering, subject",
        [list(profiles)],
    )


def ordinal_thetas(store: Store, run: str, centred: bool) -> pd.DataFrame:
    """Instruments, ordinal regression: the posterior of every condition and value; the reference first, as they were compared."""
    return store.sql(
        "SELECT * EXCLUDE (run, centred) FROM ordinal_thetas WHERE run = ? AND centred = ?",
        [run, centred],
    )


def ordinal_contrasts(store: Store, run: str) -> pd.DataFrame:
    """Instruments, ordinal regression: higher-order contrasts in conditions and between them, as they were compared."""
    return store.sql("SELECT * EXCLUDE (run) FROM ordinal_contrasts WHERE run = ?", [run])


def ordinal_parameters(store: Store, run: str) -> pd.DataFrame:
    """Instruments, ordinal regression: thresholds and the spread of the items, in the order of the scale."""
    return store.sql("SELECT * EXCLUDE (run) FROM ordinal_parameters WHERE run = ?", [run])


def ordinal_circle(store: Store, run: str) -> pd.DataFrame:
    """Instruments, ordinal regression: how far the answers lie on Schwartz's circle, by condition and measure."""
    return store.sql("SELECT * EXCLUDE (run) FROM ordinal_circle WHERE run = ?", [run])


def answerers(store: Store, profiles: Sequence[str]) -> pd.DataFrame:
    """Instruments, ordinal regression: who answered in these profile runs, in their order, unsteered first."""
    return store.sql(
        "SELECT DISTINCT run, steering, persona, list_position($runs, run) AS place FROM responses WHERE run IN (SELECT unnest($runs)) "
        "ORDER BY place, steering <> 'base', steering",
        {"runs": list(profiles)},
    )


def dilemmas(store: Store) -> pd.DataFrame:
    """Instruments, moral dilemmas: who chose in dilemmas, one row a steering of a profile run; newest run first, steered before base."""
    return store.sql(
        "SELECT r.run, r.created, r.seed, r.config, r.inputs, p.steering FROM (SELECT DISTINCT run, steering FROM step_preferences) p JOIN runs r USING (run) "
        "ORDER BY r.created DESC, r.run, p.steering = 'base', p.steering"
    )


def step_preferences(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Instruments, moral dilemmas: the preference for every value at every step, by value and step."""
    return store.sql(
        "SELECT * EXCLUDE (run, steering) FROM step_preferences WHERE run = ? AND steering = ? ORDER BY value, step",
        [run, steering],
    )


def win_rates(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Instruments, moral dilemmas: how often each value was chosen against each other, by both."""
    return store.sql(
        "SELECT * EXCLUDE (run, steering) FROM win_rates WHERE run = ? AND steering = ? ORDER BY value, against",
        [run, steering],
    )


def transitivity(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Instruments, moral dilemmas: cyclic triads beside what coins would give. One row."""
    return store.sql(
        "SELECT * EXCLUDE (run, steering) FROM transitivity WHERE run = ? AND steering = ?",
        [run, steering],
    )


def value_strengths(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Instruments, moral dilemmas: Bradley and Terry's strengths, strongest first."""
    return store.sql(
        "SELECT * EXCLUDE (run, steering) FROM value_strengths WHERE run = ? AND steering = ? ORDER BY strength DESC NULLS LAST, value",
        [run, steering],
    )


def step_agreement(store: Store, profile: str) -> pd.DataFrame:
    """Instruments, moral dilemmas: how alike subjects rank the values, in the newest contrast that a profile run is part of; by subject and step."""
    return store.sql(
        "SELECT a.*, r.seed FROM step_agreement a JOIN runs r USING (run) WHERE run IN (SELECT run FROM subjects WHERE profile = ?) "
        "QUALIFY r.created = max(r.created) OVER () ORDER BY subject, step",
        [profile],
    )


def item_answers(
    store: Store, run: str, steering: str, items: Sequence[str], limit: int = 25, offset: int = 0
) -> pd.DataFrame:
    """Instruments, moral dilemmas: single answers to these items with what was asked, in their order; `total` counts all."""
    return store.sql(
        'SELECT r.item, r.context, r.wording, r."order", r.seed, p.prompt, r.text, r.logprobs, r.chosen, r.status, count(*) OVER () AS total FROM responses AS r '
        f"LEFT JOIN prompts AS p ON {_QUESTION} WHERE r.run = $run AND r.steering = $steering AND r.item IN (SELECT unnest($items)) "
        'ORDER BY list_position($items, r.item), r.context, r.wording, r."order", r.seed LIMIT $limit OFFSET $offset',
        {"run": run, "steering": steering, "items": list(items), "limit": limit, "offset": offset},
    )


def adaem_separation(store: Store, run: str) -> pd.DataFrame:
    """Instruments, AdAEM: how far the found questions and the seeds drive the members apart; found, all seeds, best seeds."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM adaem_separation WHERE run = ? ORDER BY questions <> 'found', questions <> 'seed'",
        [run],
    )


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
    return store.sql(
        "SELECT * EXCLUDE (run) FROM adaem_ratings WHERE run = ? ORDER BY value, member", [run]
    )


def adaem_opinions(
    store: Store,
    run: str,
    stage: str,
    question: int = -1,
    member: str = "",
    value: str = "",
    limit: int = 25,
    offset: int = 0,
) -> pd.DataFrame:
    """Instruments, AdAEM: single opinions of a stage, by question and member; `total` counts all.

    `question` -1: those on all found questions; `member` empty: of all; `value` empty: whatever they hold.
    """
    return store.sql(
        "SELECT question, member, text, status, held, conformity, coherence, value_difference, semantic_difference, kept, seed, count(*) OVER () AS total "
        "FROM adaem_opinions WHERE run = $run AND stage = $stage AND (question = $question OR ($question = -1 AND question IN "
        "(SELECT question FROM adaem_questions WHERE run = $run AND found))) AND ($member = '' OR member = $member) "
        "AND ($value = '' OR list_contains(held, $value)) ORDER BY question, member, seed LIMIT $limit OFFSET $offset",
        {
            "run": run,
            "stage": stage,
            "question": question,
            "member": member,
            "value": value,
            "limit": limit,
            "offset": offset,
        },
    )
