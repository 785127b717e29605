"""Every question a page of the app asks of the store, one function each; each answers with a frame.

1. A page picks its runs first (`candidates`); everything else is asked of one run.
2. Tables are cut into pages by the database (`LIMIT`, `OFFSET`), so that a page costs the same in any study.
3. Each function says which page asks and how the answer is sorted. Column names and units are those of `schema.sql`.

`python -m benchmarks store` measures those about an SAE on 65,536 features. Left out: what only a live model knows.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import pandas as pd

from feature_store import words
from feature_store.store import Store

Sort = Literal["feature", "score", "output", "effect", "density", "max_activation"]
MAP_POINTS = 6_000
"""Unlabelled features drawn on the map; labelled ones are all drawn."""


def candidates(store: Store, kind: str, role: str = "", of: str = "") -> pd.DataFrame:
    """Every page: the finished runs of a kind, those built on run `of` (their input `role`) only; newest first."""
    where, parameters = ("AND inputs->>? = ?", [role, of]) if of else ("", [])
    return store.sql(
        f"SELECT run, created, seconds, seed, config, inputs, summary FROM runs WHERE kind = ? {where} ORDER BY created DESC, run",
        [kind, *parameters],
    )


def runs(store: Store) -> pd.DataFrame:
    """Overview: all finished runs, newest first."""
    return store.sql("SELECT run, kind, status, created, seconds, seed, summary FROM runs ORDER BY created DESC, run")


def labelled_by_value(store: Store, labels: str) -> pd.DataFrame:
    """Overview: accepted features of each value with their median held-out score, by value."""
    return store.sql(
        "SELECT value, count(DISTINCT feature) AS features, count(DISTINCT feature) FILTER (polarity > 0) AS held, "
        "count(DISTINCT feature) FILTER (polarity < 0) AS rejected, median(score) AS score "
        f"FROM {_accepted(store, labels)} GROUP BY value ORDER BY value"
    )


def profile(store: Store, run: str, centred: bool = True) -> pd.DataFrame:
    """Overview, Steer: the value profiles of a run, unsteered first."""
    return store.sql(
        "SELECT steering, value, mean, low, high, n, parsed, missing FROM profiles WHERE run = ? AND centred = ? "
        "ORDER BY steering <> 'base', steering, value",
        [run, centred],
    )


def responses(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Profiles: every response of one steering, as it was stored."""
    return store.sql('SELECT * EXCLUDE (run) FROM responses WHERE run = ? AND steering = ? ORDER BY seed, context, wording, "order", item', [run, steering])


def prompts(store: Store, run: str) -> pd.DataFrame:
    """Profiles: what was asked, by context and item."""
    return store.sql('SELECT * EXCLUDE (run) FROM prompts WHERE run = ? ORDER BY context, item, wording, "order"', [run])


def subjects(store: Store, contrast: str) -> pd.DataFrame:
    """Profiles: who answered which instrument, with the run that holds the answers; in the order they were compared."""
    return store.sql("SELECT * EXCLUDE (run) FROM subjects WHERE run = ?", [contrast])


def contrasts(store: Store, contrast: str, instrument: str) -> pd.DataFrame:
    """Profiles: every subject's difference from the reference on one instrument, by subject and value."""
    return store.sql("SELECT * EXCLUDE (run) FROM contrasts WHERE run = ? AND instrument = ? ORDER BY subject, value", [contrast, instrument])


def circle_fits(store: Store, contrast: str, instrument: str) -> pd.DataFrame:
    """Profiles: which way on the circle every subject moved, by subject."""
    return store.sql("SELECT * EXCLUDE (run) FROM circle_fits WHERE run = ? AND instrument = ? ORDER BY subject", [contrast, instrument])


def validity(store: Store, contrast: str) -> pd.DataFrame:
    """Profiles: how far every two instruments agree, by pair and metric."""
    return store.sql("SELECT * EXCLUDE (run) FROM validity WHERE run = ? ORDER BY instrument, other_instrument, metric", [contrast])


def mtmm(store: Store, contrast: str) -> pd.DataFrame:
    """Profiles: the multitrait-multimethod matrix; no row below five subjects."""
    return store.sql("SELECT * EXCLUDE (run) FROM mtmm WHERE run = ?", [contrast])


def quality(store: Store, run: str) -> pd.DataFrame:
    """Profiles: what stands beside the profiles of a run, by steering and metric."""
    return store.sql("SELECT * EXCLUDE (run) FROM quality WHERE run = ? ORDER BY steering <> 'base', steering, metric", [run])


def item_responses(store: Store, run: str, steering: str, value: str, limit: int = 25, offset: int = 0) -> pd.DataFrame:
    """Profiles, one value: single answers with what was asked, by item; `total` counts all."""
    return store.sql(
        "SELECT r.item, r.context, r.wording, r.\"order\", r.seed, p.prompt, r.text, r.rating, r.status, count(*) OVER () AS total FROM responses AS r "
        'LEFT JOIN prompts AS p ON p.run = r.run AND p.context = r.context AND p.item = r.item AND p.wording = r.wording AND p."order" = r."order" '
        "WHERE r.run = ? AND r.steering = ? AND (? = '' OR r.value = ? OR r.value = '') ORDER BY r.item, r.context, r.wording, r.\"order\", r.seed LIMIT ? OFFSET ?",
        [run, steering, value, value, limit, offset],
    )


def scenarios(store: Store, run: str) -> pd.DataFrame:
    """Review: every scenario of a run with its filters and the word of its last review, by number.

    `accepted`, `note` and `reviewer` are NULL before the first review; of two reviews with one number a rejection counts.
    `usable`: read, and accepted, or passed and not rejected.
    """
    return store.sql(
        "WITH last AS (SELECT scenario, accepted, note, reviewer, count(*) OVER (PARTITION BY scenario) AS reviews FROM reviews WHERE scenarios = $run "
        "QUALIFY row_number() OVER (PARTITION BY scenario ORDER BY number DESC, accepted) = 1) "
        "SELECT s.* EXCLUDE (run), l.accepted, l.note, l.reviewer, coalesce(l.reviews, 0) AS reviews, "
        "s.status = 'parsed' AND coalesce(l.accepted, s.passed) AS usable "
        "FROM scenarios s LEFT JOIN last l USING (scenario) WHERE s.run = $run ORDER BY s.number",
        {"run": run},
    )


def actions(store: Store, run: str, scenario: str = "") -> pd.DataFrame:
    """Review: the scored actions of a run, or of one of its scenarios, by scenario and action."""
    where, parameters = ("AND scenario = ?", [scenario]) if scenario else ("", [])
    return store.sql(
        f"SELECT scenario, action, text, scored, scores FROM actions WHERE run = ? {where} ORDER BY scenario, action", [run, *parameters]
    )


def metrics(store: Store, sae: str) -> pd.DataFrame:
    """Overview: what the SAE's training reported, by metric and step."""
    return store.sql("SELECT metric, step, value FROM training WHERE run = ? ORDER BY metric, step", [sae])


def _accepted(store: Store, labels: str) -> str:
    return store.kept(
        "SELECT feature, value, polarity, score, effect, l.low, l.high, l.n, output FROM labels l LEFT JOIN "
        "(SELECT feature, value, polarity, output FROM output_scores WHERE run = ?) USING (feature, value, polarity) WHERE l.run = ? AND accepted",
        [labels, labels],
    )


def _statistics(store: Store, sae: str) -> str:
    return store.kept(
        "SELECT feature, n_active, density, max_activation, x, y, fires_on FROM features "
        f"LEFT JOIN {words.source(store, sae, 'tops')} USING (feature) WHERE run = ? ORDER BY feature",
        [sae],
    )


_BEST = (
    "SELECT feature, arg_max(value, score) AS value, arg_max(polarity, score) AS polarity, max(score) AS score, "
    "arg_max(effect, score) AS effect, arg_max(low, score) AS low, arg_max(high, score) AS high, "
    "arg_max(n, score) AS n, arg_max_null(output, score) AS output, count(*) AS labels FROM {accepted} {narrow} GROUP BY feature"
)


class FeaturesPage(NamedTuple):
    rows: pd.DataFrame
    """One row a feature: statistics and its accepted label with the best held-out score."""
    total: int
    """Features that pass the filters [features]."""


def features(
    store: Store, sae: str, labels: str = "", values: Sequence[str] = (), polarity: int = 0, score: float = 0.0,
    text: str = "", alive: bool = True, sort: Sort = "score", descending: bool = True, limit: int = 50, offset: int = 0
) -> FeaturesPage:  # fmt: skip
    """Features: one page of the table, sorted by `sort`, then by feature; features without a number come last.

    `values`, `polarity` and `score` keep features with an accepted label like that; `text` those with a context that
    holds all its words (`words.ensure` first).
    """
    narrow, labelled, sought = [], [], []
    if values:
        narrow.append(f"value IN ({', '.join('?' * len(values))})")
        labelled += values
    if polarity:
        narrow.append("polarity = ?")
        labelled.append(polarity)
    if score:
        narrow.append("score >= ?")
        labelled.append(score)
    best = _BEST.format(accepted=_accepted(store, labels), narrow=f"WHERE {' AND '.join(narrow)}" if narrow else "")
    where = ["n_active > 0"] if alive else ["true"]
    if said := words.split(store, text) if text.strip() else []:
        query, sought = words.search(store, sae, said)
        where.append(f"feature IN ({query})")
    statistics, order = _statistics(store, sae), f"key {'DESC' if descending else 'ASC'} NULLS LAST, feature"
    # Sorting carries only the key; everything else joins for the few rows that are shown.
    rows = store.sql(
        f"""
        WITH best AS MATERIALIZED ({best}),
        kept AS MATERIALIZED (
            SELECT feature, {sort} AS key FROM (SELECT feature, density, max_activation FROM {statistics} WHERE {' AND '.join(where)})
            {'JOIN' if narrow else 'LEFT JOIN'} best USING (feature)),
        page AS (SELECT feature, key, (SELECT count(*) FROM kept) AS total FROM kept ORDER BY {order} LIMIT {int(limit)} OFFSET {int(offset)})
        SELECT feature, value, polarity, score, output, effect, low, high, n, labels, density, max_activation, n_active, fires_on, total
        FROM page JOIN {statistics} USING (feature) LEFT JOIN best USING (feature) ORDER BY {order}""",
        [*labelled, *sought],
    )
    return FeaturesPage(rows.drop(columns="total"), int(rows.total.iloc[0]) if len(rows) else 0)


def feature_map(store: Store, sae: str, labels: str = "") -> pd.DataFrame:
    """Features: map coordinates, every labelled feature and an even sample of the others, by feature."""
    return store.sql(
        f"""
        WITH best AS ({_BEST.format(accepted=_accepted(store, labels), narrow="")}),
        placed AS (SELECT feature, x, y, density, value, polarity, score FROM {_statistics(store, sae)} LEFT JOIN best USING (feature) WHERE x IS NOT NULL)
        SELECT * FROM placed WHERE value IS NOT NULL OR feature % greatest(1, (SELECT count(*) FROM placed) // {MAP_POINTS}) = 0 ORDER BY feature"""
    )


def feature(store: Store, sae: str, index: int) -> pd.DataFrame:
    """Features, one feature: its statistics; no row where there is no such feature."""
    return store.sql("SELECT * FROM features WHERE run = ? AND feature = ?", [sae, index])


def contexts(store: Store, sae: str, index: int, limit: int = 20) -> pd.DataFrame:
    """Features, one feature: its top contexts, strongest first."""
    return store.sql(
        "SELECT rank, activation, document, position, tokens, activations, peak FROM contexts "
        "WHERE run = ? AND feature = ? AND rank < ? ORDER BY rank",
        [sae, index, limit],
    )


def histogram(store: Store, sae: str, index: int) -> pd.DataFrame:
    """Features, one feature: its activation histogram, by bin."""
    return store.sql("SELECT bin, low, high, count FROM histograms WHERE run = ? AND feature = ? ORDER BY bin", [sae, index])


def spread(store: Store, sae: str, index: int) -> pd.DataFrame:
    """Features, one feature: over how many texts it fires, and quantiles of its activation. One row."""
    return store.sql(
        "SELECT count(*) AS tokens, count(DISTINCT document) AS texts, median(activation) AS median, "
        "quantile_cont(activation, 0.95) AS q95 FROM activations WHERE run = ? AND feature = ?",
        [sae, index],
    )


def competing_labels(store: Store, labels: str, index: int) -> pd.DataFrame:
    """Features, one feature: every label that competes for it, accepted first, then by held-out score."""
    return store.sql(
        "SELECT value, polarity, l.effect, l.low, l.high, p, q, score, gain, l.n, method, accepted, evidence, output, o.low AS output_low, o.high AS output_high, "
        "beside, null_high, o.n AS output_n, dose FROM labels l LEFT JOIN (SELECT * FROM output_scores WHERE run = $run) o USING (feature, value, polarity) "
        "WHERE l.run = $run AND feature = $feature ORDER BY accepted DESC, score DESC, value",
        {"run": labels, "feature": index},
    )


def labelled_features(store: Store, labels: str) -> pd.DataFrame:
    """Steer: every accepted feature with its best label, by value, best held-out score first."""
    best = _BEST.format(accepted=_accepted(store, labels), narrow="")
    return store.sql(f"{best} ORDER BY value, score DESC, feature")


def feature_doses(store: Store, effects: str, index: int) -> pd.DataFrame:
    """Features, one feature: its effect on every value at every dose, with the damage; by target and dose."""
    return store.sql(
        "SELECT dose, target, effect, low, high, points, n, damage, value, polarity FROM dose_effects "
        "WHERE run = ? AND kind = 'feature' AND feature = ? ORDER BY target, dose",
        [effects, index],
    )


def matrix(store: Store, effects: str) -> pd.DataFrame:
    """Overview, Side effects: every cell of the value x value matrix, by source and target."""
    return store.sql("SELECT * EXCLUDE (run) FROM side_effects WHERE run = ? ORDER BY source, target", [effects])


def leakage(store: Store, effects: str) -> pd.DataFrame:
    """Side effects: leakage of every value and part of the circle, by source and part."""
    return store.sql("SELECT * EXCLUDE (run) FROM leakage WHERE run = ? ORDER BY source, part", [effects])


def matched(store: Store, effects: str) -> pd.DataFrame:
    """Side effects: damage-matched strength of every steered feature, those that were not matched first."""
    return store.sql(
        "SELECT feature, value, polarity, strength, reached, damage FROM matched WHERE run = ? AND kind = 'feature' "
        "ORDER BY reached, value, feature",
        [effects],
    )


def cell_doses(store: Store, effects: str, source: str, target: str) -> pd.DataFrame:
    """Side effects, one cell: dose-response of the source's features on the target, turned so that the source rises.

    The controls come along (`kind`), not turned. By kind, unit and dose.
    """
    return store.sql(
        "SELECT kind, unit_id, feature, dose, damage, n, polarity, CASE WHEN polarity < 0 THEN -effect ELSE effect END AS effect, "
        "CASE WHEN polarity < 0 THEN -high ELSE low END AS low, CASE WHEN polarity < 0 THEN -low ELSE high END AS high "
        "FROM dose_effects WHERE run = ? AND target = ? AND (value = ? OR kind <> 'feature') ORDER BY kind, unit_id, dose",
        [effects, target, source],
    )


def cell_ratings(store: Store, effects: str, source: str, target: str, limit: int = 25, offset: int = 0) -> pd.DataFrame:
    """Side effects, one cell: single prompts and their ratings, steered and unsteered, largest change first.

    Each feature of the source is shown at the measured dose nearest its damage-matched strength. `total` counts all.
    """
    return store.sql(
        """
        WITH nearest AS (
            SELECT i.feature, arg_min(i.intervention, abs(i.dose - m.strength)) AS intervention, arg_min(i.dose, abs(i.dose - m.strength)) AS dose
            FROM interventions AS i JOIN matched AS m ON m.run = i.run AND m.unit_id = i.unit_id
            WHERE i.run = $run AND i.kind = 'feature' AND i.value = $source GROUP BY i.feature),
        page AS (
            SELECT feature, dose, context, item, wording, "order", base, rating, rating - base AS change, count(*) OVER () AS total
            FROM ratings JOIN nearest USING (intervention) WHERE run = $run AND value = $target
            ORDER BY abs(rating - base) DESC, feature, context, item LIMIT $limit OFFSET $offset)
        SELECT page.*, prompt FROM page LEFT JOIN prompts AS p ON p.run = $run AND p.context = page.context AND p.item = page.item
            AND p.wording = page.wording AND p."order" = page."order"
        ORDER BY abs(change) DESC, feature, page.context, page.item""",
        {"run": effects, "source": source, "target": target, "limit": limit, "offset": offset},
    )


def arm_means(store: Store, comparison: str) -> pd.DataFrame:
    """Compare: every method and control in the mean over values, against the best baseline; largest effect first."""
    return store.sql(
        "SELECT m.* EXCLUDE (run), c.baseline, c.difference, c.low AS difference_low, c.high AS difference_high, c.q FROM arm_means AS m "
        "LEFT JOIN arm_contrasts AS c ON c.run = m.run AND c.arm = m.arm AND c.value = 'all' WHERE m.run = ? ORDER BY m.effect DESC, m.arm",
        [comparison],
    )


def arms(store: Store, comparison: str) -> pd.DataFrame:
    """Compare: every method and control for every value at its chosen strength; by value, largest effect first."""
    return store.sql(
        "SELECT a.* EXCLUDE (run, chosen), c.baseline, c.difference, c.q FROM arms AS a "
        "LEFT JOIN arm_contrasts AS c ON c.run = a.run AND c.arm = a.arm AND c.value = a.value "
        "WHERE a.run = ? AND a.chosen ORDER BY a.value, a.effect DESC, a.arm",
        [comparison],
    )


def arm_scores(store: Store, comparison: str) -> pd.DataFrame:
    """Compare: ratings of texts at the strengths chosen for them, by value, best first; no row without a judge."""
    return store.sql(
        "SELECT * EXCLUDE (run, chosen) FROM arm_scores WHERE run = ? AND chosen ORDER BY value, harmonic DESC, arm", [comparison]
    )


def arm_ratings(store: Store, comparison: str, intervention: int, limit: int = 25) -> pd.DataFrame:
    """Compare, one method for one value: the questions that report its effect, with their ratings, largest change first."""
    return store.sql(
        "SELECT r.context, r.item, r.value, p.prompt, r.base, r.rating, r.rating - r.base AS change FROM ratings AS r "
        'LEFT JOIN prompts AS p ON p.run = r.run AND p.context = r.context AND p.item = r.item AND p.wording = r.wording AND p."order" = r."order" '
        "JOIN arms AS a ON a.run = r.run AND a.intervention = r.intervention AND a.value = r.value "
        "WHERE r.run = ? AND r.intervention = ? ORDER BY abs(r.rating - r.base) DESC, r.context, r.item LIMIT ?",
        [comparison, intervention, limit],
    )


def arm_texts(store: Store, comparison: str, intervention: int) -> pd.DataFrame:
    """Compare, one method for one value: what was written, beside what was written unsteered; by opening."""
    return store.sql(
        "SELECT t.opening, t.prompt, t.text, u.text AS unsteered, t.concept, t.instruct, t.fluency FROM arm_texts AS t "
        "LEFT JOIN arm_texts AS u ON u.run = t.run AND u.intervention = -1 AND u.opening = t.opening "
        "WHERE t.run = ? AND t.intervention = ? ORDER BY t.opening",
        [comparison, intervention],
    )


def edges(store: Store, graph: str) -> pd.DataFrame:
    """Graph: every ordered pair, edges that belong to the graph first, then by weight."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM edges WHERE run = ? ORDER BY present DESC, abs(weight) DESC, source, target", [graph]
    )


def true_edges(store: Store, graph: str) -> pd.DataFrame:
    """Graph: the planted edges, by weight; no row where the truth is unknown."""
    return store.sql("SELECT source, target, weight FROM true_edges WHERE run = ? ORDER BY abs(weight) DESC, source, target", [graph])


def plan_effects(store: Store, run: str) -> pd.DataFrame:
    """Plan: what was wanted, predicted and measured of every value."""
    return store.sql("SELECT * EXCLUDE (run) FROM plan_effects WHERE run = ? ORDER BY value", [run])


def joint_features(store: Store, run: str, intervention: int = 0) -> pd.DataFrame:
    """Plan: the features of one joint steering, the largest dose first."""
    return store.sql(
        "SELECT feature, value, polarity, weight FROM joint_features WHERE run = ? AND intervention = ? ORDER BY abs(weight) DESC, feature",
        [run, intervention],
    )


def predictions(store: Store, run: str, model: str) -> pd.DataFrame:
    """Plan: held-out joint steerings under one model, predicted and measured."""
    return store.sql(
        "SELECT * EXCLUDE (run, model) FROM predictions WHERE run = ? AND model = ? ORDER BY intervention, value", [run, model]
    )


def prediction_scores(store: Store, run: str) -> pd.DataFrame:
    """Plan: how well each model predicts, value by value; `all` pools them."""
    return store.sql("SELECT * EXCLUDE (run) FROM prediction_scores WHERE run = ? ORDER BY model DESC, value", [run])
