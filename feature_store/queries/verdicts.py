"""What people say of features: which verdicts count, who gave them, how far people agree.

1. A verdict may stand in two runs, where a merge was killed: each is taken once, by its id.
2. Of a labeller's verdicts on a feature the last one counts that the labeller has not withdrawn
   (`standing`).
3. A labeller is a name and a desk: two people of the same name are two labellers.
4. The queue (`label_queue`) puts first what a verdict would teach most: features on whose value the
   runs of labels disagree, and that do something when steered.
5. What counts is turned into an answer: `power+`, `power-`, `power` (both poles), empty (no value),
   NULL (unsure). Agreement is of answers.

Left out: whose verdict is right.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from feature_store.store import Store

_STANDING = """
    withdrawn AS (
        SELECT withdraws AS id, labeller, desk FROM every_verdict WHERE verdict = 'undo'),
    valid AS (
        SELECT v.* FROM every_verdict v ANTI JOIN withdrawn USING (id, labeller, desk)
        WHERE verdict <> 'undo'),
    standing AS (
        SELECT *,
            CASE verdict WHEN 'reject' THEN '' WHEN 'unsure' THEN NULL
                ELSE value || CASE polarity WHEN 1 THEN '+' WHEN -1 THEN '-' ELSE '' END
            END AS answer
        FROM valid
        QUALIFY row_number() OVER (
            PARTITION BY sae, feature, labeller, desk ORDER BY given DESC, id DESC) = 1)"""
"""The verdicts that were not withdrawn, and those that count, out of every one."""


class VerdictAgreement(NamedTuple):
    """How far the people agree who said something of an SAE's features."""

    people: int
    """Labellers with a verdict that counts."""
    answered: int
    """Features of which somebody gave an answer; an unsure is none."""
    shared: int
    """Features of which two labellers or more gave one."""
    same: int
    """Those of them on which all gave the same."""
    alpha: float
    """Krippendorff's alpha of the answers, nominal, over the shared features [at most 1; 0 = as if
    by chance]; NaN where nothing is shared, or where all answers are the same."""


def verdict_log(store: Store, sae: str = "") -> pd.DataFrame:
    """Every verdict that was given, of one SAE where it is named, oldest first: the audit trail.

    `standing` says what became of it: counts | replaced | withdrawn | undo.
    """
    return store.sql(
        f"""
        WITH {_every(store)}
        SELECT id, sae, feature, verdict, value, polarity, labels, method, labeller, desk, note,
            given, withdraws, came_in,
            CASE WHEN verdict = 'undo' THEN 'undo'
                WHEN id IN (SELECT id FROM standing) THEN 'counts'
                WHEN id IN (SELECT id FROM valid) THEN 'replaced' ELSE 'withdrawn' END AS standing
        FROM every_verdict WHERE $sae = '' OR sae = $sae ORDER BY given, id""",
        {"sae": sae},
    )


def standing_verdicts(store: Store, sae: str) -> pd.DataFrame:
    """The verdicts that count, of one SAE, by feature and labeller; `answer` is what they say."""
    return store.sql(
        f"""
        WITH {_every(store)}
        SELECT feature, labeller, desk, verdict, value, polarity, answer, labels, method, note,
            given, id
        FROM standing WHERE sae = ? ORDER BY feature, labeller, desk""",
        [sae],
    )


def feature_verdicts(
    store: Store, sae: str, feature: int, labeller: str, desk: str
) -> pd.DataFrame:
    """What others say of a feature: nothing before the labeller has said something of it.

    By time. So two people are blind to one another until both have judged.
    """
    return store.sql(
        f"""
        WITH {_every(store)},
        of_feature AS (SELECT * FROM standing WHERE sae = $sae AND feature = $feature)
        SELECT labeller, desk, verdict, value, polarity, note, given FROM of_feature
        WHERE (labeller, desk) <> ($labeller, $desk) AND EXISTS (
            SELECT 1 FROM of_feature WHERE (labeller, desk) = ($labeller, $desk))
        ORDER BY given, labeller""",
        {"sae": sae, "feature": feature, "labeller": labeller, "desk": desk},
    )


def verdicts_by(store: Store, sae: str, labeller: str, desk: str) -> pd.DataFrame:
    """What one labeller says of an SAE's features and has not withdrawn, the last one first."""
    return store.sql(
        f"""
        WITH {_every(store)}
        SELECT id, feature, verdict, value, polarity, note, given FROM valid
        WHERE sae = ? AND labeller = ? AND desk = ? ORDER BY given DESC, id DESC""",
        [sae, labeller, desk],
    )


def _every(store: Store) -> str:
    """Give the parts of a query that name every verdict once, and those that stand and count.

    They are kept in memory until a run of verdicts comes or goes, since each may be a file.
    """
    known = store.sql(
        "SELECT coalesce(md5(string_agg(run, ' ' ORDER BY run)), 'none') AS known FROM runs"
        " WHERE kind = 'verdicts'"
    ).known[0]
    every = store.kept(
        "SELECT DISTINCT ON (id) * EXCLUDE (run) FROM verdicts WHERE ? <> '' ORDER BY id, given",
        [known],
    )
    return f"every_verdict AS (SELECT * FROM {every}),{_STANDING}"


def labellers(store: Store) -> pd.DataFrame:
    """The people who gave verdicts, whoever gave the first one first; `verdicts` counts all."""
    return store.sql(f"""
        WITH {_every(store)}
        SELECT labeller, desk, count(*) AS verdicts, min(given) AS first, max(given) AS last
        FROM every_verdict GROUP BY labeller, desk ORDER BY first, labeller, desk""")


def verdict_ids(store: Store) -> set[str]:
    """The ids of all verdicts."""
    return set(store.sql("SELECT DISTINCT id FROM verdicts").id)


def verdict_agreement(store: Store, sae: str) -> VerdictAgreement:
    """How far people agree on an SAE's features, by the answers that count.

    Alpha is Krippendorff's for nominal answers, of which some are missing: with m answers on a
    feature, of which c are the same, alpha = 1 - (n - 1) sum (m^2 - sum c^2) / (m - 1) / (n^2 - sum
    k^2), where n answers stand on shared features and k of them are of one kind.
    """
    row = store.sql(
        f"""
        WITH {_every(store)},
        of_sae AS (SELECT * FROM standing WHERE sae = ?),
        sizes AS (SELECT feature, count(answer) AS m FROM of_sae GROUP BY feature),
        paired AS (
            SELECT feature, answer, m FROM of_sae JOIN sizes USING (feature)
            WHERE m > 1 AND answer IS NOT NULL),
        kinds AS (SELECT feature, m, answer, count(*) AS c FROM paired GROUP BY ALL),
        units AS (
            SELECT feature, any_value(m) AS m, sum(c * c) AS alike, count(*) AS kinds
            FROM kinds GROUP BY feature),
        totals AS (SELECT answer, sum(c) AS k FROM kinds GROUP BY answer),
        chance AS (SELECT sum(k) AS n, sum(k * k) AS alike FROM totals)
        SELECT
            (SELECT count(DISTINCT (labeller, desk)) FROM of_sae) AS people,
            (SELECT count(*) FROM sizes WHERE m > 0) AS answered,
            (SELECT count(*) FROM units) AS shared,
            (SELECT count(*) FROM units WHERE kinds = 1) AS same,
            1 - (n - 1) * (SELECT sum((m * m - alike) / (m - 1)) FROM units)
                / nullif(n * n - alike, 0) AS alpha
        FROM chance""",
        [sae],
    ).iloc[0]
    return VerdictAgreement(
        people=int(row.people),
        answered=int(row.answered),
        shared=int(row["shared"]),
        same=int(row.same),
        alpha=float("nan") if pd.isna(row.alpha) else float(row.alpha),
    )


JUDGED = ("human", "consensus")
"""Labelers that repeat what runs and people say: their runs are no voices of their own."""


def voices(store: Store, sae: str) -> pd.DataFrame:
    """The runs of labels whose labels compete: the newest of each labeler and texts, by labeler."""
    return store.sql(
        """
        SELECT run, config->>'labeler' AS labeler FROM runs
        WHERE kind = 'labels' AND inputs->>'sae' = ?
            AND NOT list_contains(?, coalesce(config->>'labeler', ''))
        QUALIFY row_number() OVER (
            PARTITION BY labeler, config->>'labelled' ORDER BY created DESC, run) = 1
        ORDER BY labeler, run""",
        [sae, list(JUDGED)],
    )


def voiced_labels(store: Store, runs: Sequence[str], index: int) -> pd.DataFrame:
    """Every label of one feature in some runs, accepted first, by labeler and strength."""
    return store.sql(
        """
        SELECT l.run, method, value, polarity, part, l.effect, l.low, l.high, p, q, score, gain,
            l.n, accepted, evidence, output, o.low AS output_low, o.high AS output_high, beside,
            null_high, o.n AS output_n
        FROM labels l LEFT JOIN output_scores o USING (run, feature, value, polarity)
        WHERE list_contains(?, l.run) AND feature = ?
        ORDER BY accepted DESC, method, coalesce(score, l.effect) DESC, value""",
        [list(runs), index],
    )


def label_queue(
    store: Store, sae: str, runs: Sequence[str], labeller: str = "", desk: str = ""
) -> pd.DataFrame:
    """What to judge next: the features that some runs label, first what a verdict teaches most.

    `priority` is disagreement times importance, both from 0 to 1.

    - `disagreement`: how likely two voices, drawn with putting back, name different values. Every
      run is a voice, for the value of its best accepted label or for none; one voice more always
      says none, so that a label that stands alone is in doubt.
    - `importance`: the feature's rank, as a share, by the largest effect that steering it had on
      any value, at the dose nearest to its matched strength, in the sweeps of the SAE's labels
      (`by` sweep); else by its output score (`by` output); else by the label's own effect among
      those of its run (`by` effect). Ranks, because the three have different units.

    `value`, `polarity`, `part`, `run` and `method` are the label that most runs give. Features of
    which the labeller has said something are left out; what others say does not matter here.
    """
    sweeps = store.sql(
        """
        SELECT run FROM runs WHERE kind = 'effects' AND inputs->>'labels' IN (
            SELECT run FROM runs WHERE kind = 'labels' AND inputs->>'sae' = ?) ORDER BY run""",
        [sae],
    )
    # What is kept is named by its parameters, so the sweeps that there are now are among them.
    waiting = store.kept(_QUEUE, [",".join(runs), ",".join(sweeps.run)])
    return store.sql(
        f"""
        WITH {_every(store)}
        SELECT * FROM {waiting} ANTI JOIN (
            SELECT feature FROM standing WHERE sae = ? AND labeller = ? AND desk = ?)
            USING (feature)
        ORDER BY priority DESC, feature""",
        [sae, labeller, desk],
    )


_QUEUE = """
    WITH asked AS (SELECT string_split(?, ',') AS runs, string_split(?, ',') AS sweeps),
    best AS (
        SELECT run, feature, arg_max(value, coalesce(score, effect)) AS value,
            arg_max(polarity, coalesce(score, effect)) AS polarity,
            arg_max_null(part, coalesce(score, effect)) AS part,
            any_value(method) AS method, max(abs(effect)) AS effect
        FROM labels, asked WHERE accepted AND list_contains(asked.runs, run)
        GROUP BY run, feature),
    ranked AS (
        SELECT *, cume_dist() OVER (PARTITION BY run ORDER BY effect) AS share FROM best),
    votes AS (
        SELECT feature, value, count(*) AS c, max(share) AS share,
            arg_max(polarity, share) AS polarity, arg_max_null(part, share) AS part,
            arg_max(run, share) AS run, arg_max(method, share) AS method
        FROM ranked GROUP BY feature, value),
    first_choice AS (
        SELECT feature, value, polarity, part, run, method, c AS votes FROM votes
        QUALIFY row_number() OVER (PARTITION BY feature ORDER BY c DESC, share DESC, value) = 1),
    doubt AS (
        SELECT feature, len(any_value(runs)) AS asked_runs,
            1 - (sum(c * c) + (asked_runs + 1 - sum(c)) ^ 2) / (asked_runs + 1) ^ 2
                AS disagreement,
            max(share) AS by_effect
        FROM votes, asked GROUP BY feature),
    nearest AS (
        SELECT d.feature, abs(d.effect) AS effect
        FROM asked, dose_effects d JOIN matched m ON m.run = d.run AND m.unit_id = d.unit_id
        WHERE d.kind = 'feature' AND list_contains(asked.sweeps, d.run)
        QUALIFY rank() OVER (
            PARTITION BY d.run, d.unit_id ORDER BY abs(d.dose - m.strength)) = 1),
    swept AS (
        SELECT feature, cume_dist() OVER (ORDER BY max(effect)) AS by_sweep FROM nearest
        GROUP BY feature),
    raised AS (
        SELECT feature, cume_dist() OVER (ORDER BY max(abs(output))) AS by_output
        FROM output_scores, asked WHERE list_contains(asked.runs, run) AND output IS NOT NULL
        GROUP BY feature)
    SELECT feature, value, polarity, part, run, method, votes, asked_runs AS runs,
        disagreement, coalesce(by_sweep, by_output, by_effect) AS importance,
        CASE WHEN by_sweep IS NOT NULL THEN 'sweep' WHEN by_output IS NOT NULL THEN 'output'
            ELSE 'effect' END AS by,
        disagreement * coalesce(by_sweep, by_output, by_effect) AS priority
    FROM first_choice JOIN doubt USING (feature) LEFT JOIN swept USING (feature)
        LEFT JOIN raised USING (feature)"""
"""Every labelled feature with its doubt and its importance, whoever asks."""
