"""The published systems on a real chat model: what each found, beside its null and its controls.

1. `SMOLLM2_STUDY` names the folder of a study that `make real` made. `jobs/smollm2-systems.toml` is
   run on it: what is finished is not made again.
2. Value Portrait's items and the Staircase's dilemmas are asked where they lie beside the project.
3. Each system's figures are read from the store and printed as a row each: what, the estimate with
   its interval and n, and what stands beside it (chance, a null band, a control, a prompt).

Reach: every stage ends. What a stage finds is a finding, and no reach.
"""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from feature_store.errors import WorkbenchError
from feature_store.progress import in_terminal
from workbench.command.job import check_needs, read_job, run_job
from workbench.study import Study

NAME = "systems"
ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
OF_OTHERS = {
    "value-portrait": (DATA / "value_portrait" / "query-response-tagged.json", "items={}"),
    "moral-dilemmas": (DATA / "mmd" / "MMDs" / "MMDs_Schwartz.json", "items={}"),
}
"""Instrument -> the file of its items, and how it is named."""
OF_WORDINGS = {"value-portrait": ("reply",)}
"""Instrument -> the wordings that are asked, where all would take an hour."""
QUERIES = {
    "1 causal value graph": """
        SELECT 'PC, expected less unexpected change, by ' || "by" AS what, gap AS estimate, low,
            high, 'permuted nodes ' || round(null_low, 2) || ' to ' || round(null_high, 2)
            || ', p ' || round(p, 3) AS beside, clusters AS n
        FROM kang_side_effects WHERE run = $kang AND graph = 'pc'
        UNION ALL SELECT 'roles moved up by the best ' || "by" || ', mean over values', avg(up),
            NULL, NULL, 'moved down ' || round(avg(down), 2), max(n)
        FROM kang_control WHERE run = $kang AND direction = 1 GROUP BY "by"
        UNION ALL SELECT 'answers that could not be read', avg((status <> 'parsed')::DOUBLE), NULL,
            NULL, '', count(*) FROM kang_answers WHERE run = $kang""",
    "2 ConVA": """
        SELECT 'held-out accuracy of the best layer, median over values' AS what,
            median(best) AS estimate, NULL AS low, NULL AS high,
            'sides swapped at random ' || round(median(control), 2) || ', length alone AUROC '
            || round(median(length), 2) AS beside, max(n) AS n FROM (
            SELECT max(accuracy) AS best, arg_max(control, accuracy) AS control,
                max(length_auroc) AS length, max(n) AS n FROM probes WHERE run = $probes
            GROUP BY value)
        UNION ALL SELECT measure || ', ' || CASE steering WHEN 'change' THEN 'change' WHEN 'base'
            THEN 'before' ELSE 'after' END, mean, low, high, missing || ' unread', n
        FROM control WHERE run = $control
        UNION ALL SELECT 'compared: ' || arm || ' [unsteered SD]', effect, low, high,
            'damage ' || round(damage, 3) || ' nats', n FROM arm_means WHERE run = $comparison""",
    "3 COUPLE": """
        SELECT condition || ', ' || metric AS what, estimate, low, high,
            missing || ' without a number' AS beside, n FROM couple_metrics WHERE run = $couple
        UNION ALL SELECT 'numeric: change of ' || value || ' [points]', change, low, high,
            'permuted nodes ' || round(null_low, 2) || ' to ' || round(null_high, 2), n
        FROM counterfactual_changes WHERE run = $counterfactual AND target IS NULL""",
    "4 ValueLocate": """
        SELECT condition || ', gamma ' || gamma || ', mean over values' AS what,
            effect AS estimate, low, high, 'less random neurons ' || coalesce(round(excess, 3)
            || ' [' || round(excess_low, 3) || ', ' || round(excess_high, 3) || ']', '-')
            || ', damage ' || round(damage, 3) AS beside, n
        FROM neuron_effects WHERE run = $neurons AND value = 'all' AND target = 'own'""",
    "5 ValuePilot": """
        SELECT metric AS what, mean AS estimate, low, high, 'chance ' || round(chance, 2) AS beside,
            n FROM agreements WHERE run = $decisions AND steering = 'base'""",
    "7 ordinal regression": """
        SELECT contrast || ', ' || CASE other WHEN '' THEN 'as it is' ELSE 'persona less base' END
            AS what, mean AS estimate, low, high, 'R-hat ' || round(r_hat, 3) AS beside, n
        FROM ordinal_contrasts WHERE run = $ordinal AND (contrast LIKE '%less%' OR
            (other <> '' AND contrast = 'power'))""",
    "8 the Staircase": """
        SELECT 'cyclic triads of ' || triads AS what, cycles AS estimate, low, high,
            'coins ' || chance AS beside, n FROM transitivity
        UNION ALL SELECT 'preference of ' || value || ', all steps', avg(preference), NULL,
            NULL, 'by coins 0', min(n) FROM step_preferences GROUP BY value""",
    "answers that were read": """
        SELECT config->>'instrument' || ', ' || (config->>'mode') AS what,
            avg((responses.status = 'parsed')::DOUBLE) AS estimate, NULL AS low,
            NULL AS high, '' AS beside,
            count(*) AS n FROM responses JOIN runs USING (run) GROUP BY run, what""",
    "9 AdAEM": """
        SELECT 'separation by questions: ' || questions AS what, separation AS estimate, low, high,
            'opinions dealt at random ' || round(chance, 3) AS beside, n
        FROM adaem_separation WHERE run = $adaem
        UNION ALL SELECT 'share of opinions that hold ' || value || ', ' || member, share,
            share_low, share_high, missing || ' unread', n FROM adaem_ratings
        WHERE run = $adaem AND value IN ('power', 'benevolence')""",
    "joint steerings": """
        SELECT 'R2, ' || model AS what, r2 AS estimate, low, high, 'chance ' || round(chance, 2)
            AS beside, n FROM prediction_scores WHERE run = $prediction AND value = 'all'""",
    "planner": """
        SELECT value || ', measured [nats a token]' AS what, measured AS estimate,
            measured_low AS low, measured_high AS high, 'predicted ' || round(predicted, 3)
            || ', random ' || round(control, 3) AS beside, n
        FROM plan_effects WHERE run = $plan AND NOT isnan(wanted)""",
    "labels carried to text": """
        SELECT ear || ': rank, ' || arm || ' ' || turn AS what, rank AS estimate, low, high,
            'p ' || round(p, 3) || ', heard ' || heard || ' of ' || n_values AS beside, n
        FROM transfer_ranks WHERE run = $transfer""",
}
"""System -> a query for rows of what, estimate, low, high, beside, n; `$kind` is the newest run."""


def main() -> dict:
    """Reach: every stage ends."""
    folder = os.environ.get("SMOLLM2_STUDY", "")
    if not folder:
        raise SystemExit("Name a study that `make real` made in SMOLLM2_STUDY.")
    study = Study(folder, create=False)
    job = read_job(ROOT / "jobs" / "smollm2-systems.toml")
    check_needs(study, job.stages)
    with in_terminal("systems") as progress:
        outcome = run_job(study, job.stages, progress)
    for name, reason in outcome.failed.items():
        print(f"| {name} | missing: {reason} |")
    newest = {run.kind: run.id for run in study.runs.all()}
    rows = []
    for system, query in QUERIES.items():
        for row in _asked(study, query, newest):
            rows.append({"system": system, **row})
    rows += _three_ways(study, {name: run.id for name, run in outcome.runs.items()})
    rows += _of_others(study)
    for row in rows:
        print(_line(row))
    seconds = {name: round(run.seconds) for name, run in outcome.runs.items()}
    return {
        "name": NAME,
        "value": len(outcome.failed),
        "reach": 0,
        "holds": not outcome.failed,
        "failed": outcome.failed,
        "seconds": seconds,
        "rows": rows,
    }


def _asked(study: Study, query: str, newest: dict[str, str]) -> list[dict]:
    """Ask the store for the rows of a system; none where a run it needs is missing."""
    needed = set(re.findall(r"\$(\w+)", query))
    if not needed <= newest.keys():
        return []
    frame = study.store.sql(query, {kind: newest[kind] for kind in needed})
    return frame.to_dict("records")


def _three_ways(study: Study, stages: dict[str, str]) -> list[dict]:
    """Say whether the profile by the model's own words, by numbers and by written answers agree."""
    named = {"numbers": "measure.numbers", "written": "measure.written"}
    runs = {way: stages[stage] for way, stage in named.items() if stage in stages}
    voiced = [
        run.id
        for run in study.runs.all("profile-")
        if run.config["mode"] == "voice" and run.config["instrument"] == "standin"
    ]
    runs |= {"own words": voiced[-1]} if voiced else {}
    means = {}
    for way, run in runs.items():
        rows = study.store.sql(
            "SELECT value, mean, missing, parsed FROM profiles WHERE run = ? AND centred"
            " AND steering = 'base' ORDER BY value",
            [run],
        )
        means[way] = rows.set_index("value")["mean"]
    table = pd.DataFrame(means)
    rows = []
    for place, one in enumerate(table):
        for other in table.columns[place + 1 :]:
            pair = table[[one, other]].dropna()
            if len(pair) < 3 or pair.nunique().min() < 2:
                continue
            agreement = spearmanr(pair[one], pair[other])
            rows.append(
                {
                    "system": "base profile, several ways",
                    "what": f"rank correlation over values, {one} and {other}",
                    "estimate": float(agreement.statistic),
                    "low": np.nan,
                    "high": np.nan,
                    "beside": f"p {agreement.pvalue:.2f}",
                    "n": len(pair),
                }
            )
    return rows


def _of_others(study: Study) -> list[dict]:
    """Ask instruments whose items lie beside the project, and give their profiles."""
    rows = []
    for instrument, (file, named) in OF_OTHERS.items():
        if not file.exists():
            continue
        try:
            run = study.measure(
                model="smollm2",
                instrument=instrument,
                settings=[named.format(file)],
                wordings=OF_WORDINGS.get(instrument, ()),
                contexts="none",
                mode="logprob",
            )
        except WorkbenchError as error:
            rows.append({"system": instrument, "what": str(error), "estimate": np.nan})
            continue
        frame = study.store.sql(
            "SELECT value AS what, mean AS estimate, low, high, missing || ' unread' AS beside, n"
            " FROM profiles WHERE run = ? AND centred ORDER BY mean DESC",
            [run.id],
        )
        frame = pd.concat([frame.head(2), frame.tail(2)])
        rows += [{"system": instrument, **row} for row in frame.to_dict("records")]
        cycles = study.store.sql("SELECT * FROM transitivity WHERE run = ?", [run.id])
        rows += [
            {
                "system": instrument,
                "what": f"cyclic triads of {row.triads}",
                "estimate": row.cycles,
                "low": row.low,
                "high": row.high,
                "beside": f"coins {row.chance:.1f}",
                "n": row.n,
            }
            for row in cycles.itertuples()
        ]
    return rows


def _line(row: dict) -> str:
    """Write a row as a line of a Markdown table."""
    low, high = row.get("low"), row.get("high")
    between = "" if pd.isna(low) else f" [{low:.2f}, {high:.2f}]"
    estimate = "-" if pd.isna(row["estimate"]) else f"{row['estimate']:.2f}{between}"
    n = row.get("n", "")
    return f"| {row['system']} | {row['what']} | {estimate} | {row.get('beside', '')} | {n} |"
