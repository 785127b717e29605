"""Roles and steered features answer for or against values, and PC finds a graph in their scores
(Kang et al., ACL Findings 2025).

1. Roles, items and prompts come from `roles.py`, the answers from `interview.py`. The features are
   those most active at a span of the role-free prompt; each is added at the span's tokens in the
   prompt pass alone. Where no span is known (the organism's own wordings) the whole prompt is the
   span.
2. Every role answers unsteered, under every feature and under random directions of the same length;
   test roles also under prompts that say outright what to value. A few roles at a time are kept, so
   a killed run goes on where it was.
3. PC runs over the training rows (role x feature, unsteered rows among them); beside it, how often
   each edge comes back when roles are resampled.
4. On test roles: the metrics of `causal/kang.py`, with intervals, random directions and permuted
   graphs. The organism's planted graph stands in the same table as PC's.

The graph is a hypothesis from pooled rows, as published; `graph` finds one from the interventions.
On the organism, which answers one questionnaire from 1 to 6 and cannot say yes or no, the expected
rating is laid onto [-1, 1] and its contexts stand in for roles. Left out: damage to neutral text (a
span has no place there).
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_store import registry
from feature_store.bounds import Between, Count, CountOrZero, Plugin, Replicates, Seed, Share
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, Span, Steering, Where
from feature_store.runs import Work
from workbench import material, organism
from workbench.llm.judges import open_judge
from workbench.measuring.defaults import default_wordings
from workbench.measuring.questionnaire import one_scale
from workbench.settings import plain
from workbench.steering.apply import edit_for, strongest_features
from workbench.systems.kang import metrics, pc, roles
from workbench.systems.kang.interview import ORDERS, Interview, Treatment, ask, measure
from workbench.systems.kang.roles import NOBODY
from workbench.workspace import Workspace

REPLICATES = 5
"""Bootstrap replicates of PC between two checkpoints."""
SHARE = 0.45
"""Length of a feature's step where no coef is given [share of the median residual norm]."""


@dataclasses.dataclass(frozen=True)
class KangSettings:
    sae: str = "latest"
    """Run of the SAE whose features are steered."""
    roles: Count = 100
    """Training roles; PC runs on them."""
    test_roles: Count = 25
    """Test roles, the clusters of every interval."""
    items: str = ""
    """Table (.csv) with columns value, agreement, question; empty: the items of `instrument`."""
    instrument: Annotated[str, Plugin("instruments")] = "standin"
    """Instrument plug-in."""
    least_items: int = 2
    """Values with fewer items are left out (the paper: 20)."""
    train_share: Share = 0.7
    """Share of each value's items that training roles are asked [0 to 1]."""
    sample: Annotated[float, Between(1e-09, 1)] = 0.4
    """Share of the training items of a value that one training role is asked [0 to 1]."""
    mode: Literal["auto", "generate", "yes-no", "rating"] = "auto"
    """generate: a thought, then yes or no; yes-no: their log-probabilities; rating: the
    instrument's options; auto: rating on the organism, else yes-no."""
    max_new_tokens: Count = 80
    """Length of a written answer [tokens]."""
    span: str = ""
    """Words of the prompt whose tokens are steered; empty: ` your values`, or the whole prompt
    where `mode` is rating."""
    features: tuple[int, ...] = ()
    """Features to steer; none: the most active at the span."""
    top: CountOrZero = 24
    """How many features are chosen at the span."""
    coef: float = 0.0
    """Multiple of a feature's decoder row that is added (the paper: 100); 0: as long as 0.45 of
    the median residual norm."""
    random_directions: CountOrZero = 4
    """Control directions, as long as the features' steps on average."""
    smallest_change: float = -1.0
    """Change of a score that counts [score, 0 to 2]; -1: any where the model writes, above 0.1
    otherwise."""
    alpha: Annotated[float, Between(1e-09, 1 - 1e-9)] = 0.05
    """Level of PC's independence tests."""
    replicates: Replicates = 50
    """Bootstrap replicates of PC, roles resampled."""
    permutations: Count = 2000
    """Permutations of each null, and replicates of the other intervals."""
    judge: str = ""
    """Language model that reads written answers no rule reads: local:FOLDER-OR-HUB-ID, or
    https://host/v1#model."""
    seed: Seed = 0
    """Seed of roles, items, controls, permutations and bootstrap."""


def run(study: Workspace, config: KangSettings, progress: Progress) -> Run:
    """A run of kind `kang`."""
    sae_run = study.resolve("sae", config.sae)
    told = _interview(study, config, sae_run.config["model"])
    prompts = [q.prompt for role in told.roles[:2] for q in ask(told, role)]
    orders = [
        q.prompt
        for value in told.items.values
        for sign in ORDERS
        for q in ask(told, told.roles[-1], value, sign)
    ]
    digest = hashlib.sha256(repr([told.roles, told.items, prompts, orders]).encode()).hexdigest()
    judge = (
        open_judge(config.judge, study.model, study.folder / "answers.jsonl")
        if config.judge
        else None
    )
    inputs = {"sae": sae_run.id, "model": sae_run.inputs["model"], "prompts": digest} | (
        {"judge": judge.name} if judge else {}
    )
    plainly = plain(dataclasses.replace(config, sae=sae_run.id))
    if study.runs.exists(id := study.runs.find("kang", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("kang", plainly, inputs, config.seed) as work:
        where = _where(config, told)
        treatments = _treatments(study, sae_run, config, told, where)
        edit = edit_for(study, sae_run, [one.steering for one in treatments])
        model, layer, point = (
            study.model_of(sae_run),
            sae_run.summary["layer"],
            sae_run.summary["point"],
        )
        answers, asked = measure(work, model, edit, layer, point, told, treatments, progress, judge)
        scores = _scores(answers)
        work.table(
            "kang_roles",
            [{"role": role.number, "split": role.split, "text": role.text} for role in told.roles],
        )
        work.table("kang_answers", answers, sort=("split", "role", "kind", "feature", "value"))
        work.table(
            "kang_scores",
            pa.Table.from_pandas(scores, preserve_index=False),
            sort=("split", "kind", "feature", "role"),
        )
        work.table("prompts", asked, sort=("context", "wording", "order"))
        reach, figures = _graph(work, config, told, scores, progress)
        figures |= _metrics(work, config, told, scores, reach)
        figures = {
            name: None if figure != figure else figure for name, figure in figures.items()
        }  # JSON knows no NaN
        return work.finish(
            figures
            | {
                "mode": told.mode,
                "values": len(told.items.values),
                "features": [one.feature for one in treatments if one.kind == "feature"],
                "roles": config.roles,
                "test_roles": config.test_roles,
                "answers": answers.num_rows,
                "missing": int(scores.missing.sum()),
                "steered_at": str(where),
            }
        )


def _interview(study: Workspace, config: KangSettings, model: str) -> Interview:
    own = model == material.ORGANISM
    mode = config.mode if config.mode != "auto" else "rating" if own else "yes-no"
    if own and mode != "rating":
        raise BadInput(
            f"The organism answers from 1 to 6 and cannot say yes or no, got mode {mode}. Use mode"
            " rating."
        )
    if mode == "rating" and config.items:
        raise BadInput(
            "A table of yes-or-no questions has no rating options. Use mode yes-no or generate."
        )
    instrument = one_scale(config.instrument, study.system)
    if config.items:
        items, values = roles.from_table(Path(config.items))
    else:
        items, values = roles.from_instrument(
            instrument, registry.get("values", instrument.system).values, mode != "rating"
        )
    parts = roles.split(items, values, config.train_share, config.least_items, config.seed)
    people = roles.roles(model, config.roles, config.test_roles, config.seed)
    return Interview(
        model=model,
        mode=mode,
        instrument=instrument,
        wording=default_wordings(study, config.instrument, model)[0],
        items=parts,
        roles=people,
        sample=config.sample,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
    )


def _where(config: KangSettings, told: Interview) -> Where:
    span = config.span or ("" if told.mode == "rating" else roles.told()["prompts"]["span"])
    return Span(span) if span else "prompt"


def _treatments(
    study: Workspace, sae_run: Run, config: KangSettings, told: Interview, where: Where
) -> list[Treatment]:
    """Features, then random directions as long as the features' steps on average."""
    free = [q.prompt for role in told.roles if role.number == NOBODY for q in ask(told, role)]
    features = list(config.features) or strongest_features(study, sae_run, free, where, config.top)
    if wrong := [
        feature for feature in features if not 0 <= feature < study.sae(sae_run).n_features
    ]:
        raise BadInput(
            f"The SAE has features 0 to {study.sae(sae_run).n_features - 1}, got feature"
            f" {wrong[0]}. Correct --features."
        )
    norms = study.sae(sae_run).directions(features).norm(dim=-1).tolist()
    lengths = (
        [config.coef * norm for norm in norms]
        if config.coef
        else [SHARE * sae_run.summary["median_norm"]] * len(features)
    )
    found = [
        Treatment(
            "feature",
            feature,
            Steering(
                features=((feature, 1.0),),
                method="add",
                strength=length,
                unit="raw",
                positions=where,
            ),
        )
        for feature, length in zip(features, lengths, strict=True)
    ]
    mean = float(np.mean(np.abs(lengths)))
    return found + [
        Treatment(
            "random-direction",
            n,
            Steering(
                features=(),
                method="add",
                strength=mean,
                unit="raw",
                positions=where,
                random=config.seed * 100_000 + n,
            ),
        )
        for n in range(config.random_directions)
    ]


def _scores(answers: pa.Table) -> pd.DataFrame:
    """Rows of `kang_scores`: what was not parsed enters no mean, and is counted."""
    frame = answers.select(
        ["split", "role", "kind", "feature", "value", "score", "status"]
    ).to_pandas()
    frame["parsed"] = frame.status == "parsed"
    frame["missing"] = ~frame.parsed
    groups = frame.groupby(["split", "role", "kind", "feature", "value"], as_index=False)
    return groups.agg(score=("score", "mean"), parsed=("parsed", "sum"), missing=("missing", "sum"))


def _table(scores: pd.DataFrame, told: Interview, split: str) -> pd.DataFrame:
    """Scores of one split as (kind, feature, role) x value."""
    part = scores[scores.split == split].pivot(
        index=["kind", "feature", "role"], columns="value", values="score"
    )
    return part.reindex(columns=[value.id for value in told.items.values])


def _graph(
    work: Work, config: KangSettings, told: Interview, scores: pd.DataFrame, progress: Progress
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Closure and figures of PC over the training rows; writes `kang_edges` with bootstrap
    frequencies.

    Where PC is undefined there is no closure, and the reason stands among the figures: the answers
    are worth keeping.
    """
    table = _table(scores, told, "train")
    table = table.loc[["none", "feature"]]
    data, clusters = table.to_numpy(), table.index.get_level_values("role").to_numpy()
    try:
        found = pc.discover(data, config.alpha)
    except BadInput as error:
        work.table("kang_edges", [])
        return None, {"rows": int(np.isfinite(data).all(1).sum()), "no_graph": str(error)}
    size, done = data.shape[1], work.done("bootstrap")
    for number, start in enumerate(range(0, config.replicates, REPLICATES)):
        numbers = range(start, min(start + REPLICATES, config.replicates))
        if number not in done:
            ran = [pc.replicate(data, clusters, config.seed, k, config.alpha) for k in numbers]
            work.part(
                "bootstrap",
                number,
                pa.table(
                    {
                        "edges": pa.array(
                            [None if edges is None else edges.ravel().tolist() for edges in ran],
                            pa.list_(pa.bool_()),
                        )
                    }
                ),
            )
        progress("resampling roles", numbers[-1] + 1, config.replicates)
    kept = work.parts("bootstrap")["edges"].to_pylist()
    often = pc.frequencies(
        [None if edges is None else np.array(edges).reshape(size, size) for edges in kept]
    )
    reach, reduced = pc.closure(found.edges), pc.reduction(found.edges)
    values = [value.id for value in told.items.values]
    work.table(
        "kang_edges",
        [
            {
                "source": values[i],
                "target": values[j],
                "present": bool(found.edges[i, j]),
                "oriented": bool(found.oriented[i, j]),
                "reduced": bool(reduced[i, j]),
                "descends": bool(reach[i, j]),
                "frequency": float(often.edges[i, j]),
                "descent_frequency": float(often.descendants[i, j]),
            }
            for i in range(size)
            for j in range(size)
            if i != j
        ],
    )
    return reach, {
        "rows": found.rows,
        "rows_left_out": len(data) - found.rows,
        "edges": int(found.edges.sum()),
        "oriented": int(found.oriented.sum()),
        "median_frequency": (
            float(np.median(often.edges[found.edges])) if found.edges.any() else None
        ),
        "replicates": often.replicates,
    }


def _metrics(
    work: Work,
    config: KangSettings,
    told: Interview,
    scores: pd.DataFrame,
    reach: np.ndarray | None,
) -> dict[str, Any]:
    """Writes `kang_counts`, `kang_side_effects` and `kang_control`."""
    smallest = (
        config.smallest_change
        if config.smallest_change >= 0
        else 0.0
        if told.mode == "generate"
        else 0.1
    )
    train, test = (_table(scores, told, split) for split in ("train", "test"))
    values = [value.id for value in told.items.values]
    kinds = [kind for kind in ("feature", "random-direction") if kind in test.index]
    moved = {
        kind: [metrics.signs(_changes(part, kind), smallest) for part in (train, test)]
        for kind in kinds
    }
    units = {
        kind: test.loc[kind].index.get_level_values("feature").unique().tolist() for kind in kinds
    }
    tallies = {kind: [metrics.counts(part) for part in parts] for kind, parts in moved.items()}
    work.table(
        "kang_counts",
        [row for kind in kinds for row in _count_rows(kind, units[kind], values, *tallies[kind])],
    )
    agreed = metrics.agreement(*tallies["feature"], config.permutations, config.seed)

    graphs = {} if reach is None else {"pc": reach}
    if told.model == material.ORGANISM:
        truth = organism.truth()
        places = [truth.values.index(value) for value in values]
        graphs["planted"] = pc.closure(truth.graph[np.ix_(places, places)] != 0)
    none = test.loc["none"].droplevel("feature")
    roles = metrics.signs((none.drop(NOBODY) - none.loc[NOBODY]).to_numpy(), smallest)
    number = none.drop(NOBODY).index.to_numpy()
    by = {"role": (roles, number)}
    by |= {
        kind: (parts[1].reshape(-1, len(values)), np.repeat(number, len(units[kind])))
        for kind, parts in moved.items()
    }
    found = {
        (graph, what): metrics.side_effects(*rows, graph_reach, config.permutations, config.seed)
        for graph, graph_reach in graphs.items()
        for what, rows in by.items()
    }
    work.table(
        "kang_side_effects",
        [{"graph": graph, "by": what} | row._asdict() for (graph, what), row in found.items()],
    )
    work.table("kang_control", _control_rows(test, values, moved, tallies, units, smallest))
    return {
        "smallest_change": smallest,
        "cosine": agreed.mean,
        "cosine_null": agreed.null,
        "cosine_p": agreed.p,
        **{
            f"{name}_{what}": getattr(found[graph, what], name)
            for graph, what in found
            if graph == "pc" and what != "random-direction"
            for name in ("expected", "unexpected", "p")
        },
    }


def _changes(table: pd.DataFrame, kind: str) -> np.ndarray:
    """Change of every role under every treatment of a kind, against the same role unsteered
    [role, feature, value].
    """
    base = table.loc["none"].droplevel("feature").drop(NOBODY)
    of = table.loc[kind]
    return np.stack(
        [
            of.loc[unit].reindex(base.index).to_numpy() - base.to_numpy()
            for unit in of.index.get_level_values("feature").unique()
        ],
        axis=1,
    )


def _count_rows(
    kind: str, units: Sequence[int], values: Sequence[str], train: np.ndarray, test: np.ndarray
) -> list[dict[str, Any]]:
    cosine, names = metrics.cosines(train, test), ("up", "same", "down")
    return [
        {"kind": kind, "feature": unit, "value": value, "cosine": float(cosine[f, j])}
        | {f"train_{name}": int(train[f, j, k]) for k, name in enumerate(names)}
        | {f"test_{name}": int(test[f, j, k]) for k, name in enumerate(names)}
        for f, unit in enumerate(units)
        for j, value in enumerate(values)
    ]


def _control_rows(
    test: pd.DataFrame,
    values: Sequence[str],
    moved: dict,
    tallies: dict,
    units: dict,
    smallest: float,
) -> list[dict[str, Any]]:
    """Best feature, best random direction and outright prompt, for both directions of every
    value.
    """
    base, rows = test.loc["none"].droplevel("feature").drop(NOBODY), []
    for direction, order in ORDERS.items():
        for kind, parts in moved.items():
            at = metrics.best(tallies[kind][0], direction)
            rows += [
                {"value": value, "direction": direction, "by": kind, "feature": units[kind][at[j]]}
                | metrics.moved_shares(parts[1][:, at[j], j])._asdict()
                for j, value in enumerate(values)
            ]
        ordered = test.loc[order].droplevel("feature").reindex(base.index)
        told = metrics.signs((ordered - base).to_numpy(), smallest)
        rows += [
            {"value": value, "direction": direction, "by": "prompt", "feature": -1}
            | metrics.moved_shares(told[:, j])._asdict()
            for j, value in enumerate(values)
        ]
    return rows
