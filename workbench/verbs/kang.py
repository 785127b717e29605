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
4. On test roles: the metrics of `metrics.py`, with intervals, random directions and permuted
   graphs. The organism's planted graph stands in the same table as PC's.

The graph is a hypothesis from pooled rows, as published; `graph` finds one from the interventions.
On the organism, which answers one questionnaire from 1 to 6 and cannot say yes or no, the expected
rating is laid onto [-1, 1] and its contexts stand in for roles. Left out: damage to neutral text (a
span has no place there).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from feature_store import registry
from feature_store.bounds import Between, Count, CountOrZero, Permutations, Plugin, Seed, Share
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, Span, Steering, Where
from feature_store.work import Work
from workbench import material, organism
from workbench.llm import Judge
from workbench.llm.judges import inputs_of, open_judge
from workbench.llm.reading import RULES
from workbench.measuring.defaults import default_wordings
from workbench.measuring.questionnaire import one_scale
from workbench.steering.apply import edit_for, strongest_features
from workbench.systems.kang import metrics, pc, roles
from workbench.systems.kang.interview import (
    ORDERS,
    RoleInterview,
    SteeredModel,
    Treatment,
    ask,
    ask_ordered,
    measure,
)
from workbench.systems.kang.roles import NOBODY
from workbench.workspace import Workspace, site_of

REPLICATES = 5
"""Bootstrap replicates of PC between two checkpoints."""
SHARE = 0.45
"""Length of a feature's step where no coef is given [share of the median residual norm]."""


@dataclass(frozen=True)
class KangSettings:
    """Which roles are asked what, under which steered features, and how a graph is found."""

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
    replicates: Annotated[int, Between(1, 100_000)] = 50
    """Bootstrap replicates of PC, roles resampled."""
    permutations: Permutations = 2000
    """Permutations of each null, and replicates of the other intervals."""
    judge: str = ""
    """Language model that reads written answers no rule reads: local:FOLDER-OR-HUB-ID, or
    https://host/v1#model."""
    seed: Seed = 0
    """Seed of roles, items, controls, permutations and bootstrap."""


def run(study: Workspace, settings: KangSettings, progress: Progress) -> Run:
    """Make a run of kind `kang`."""
    sae_run = study.resolve("sae", settings.sae)
    interview = _interview(study, settings, sae_run.config["model"])
    judge = None
    if settings.judge:
        judge = open_judge(settings.judge, study.model, study.folder / "answers.jsonl")
    inputs = {
        "sae": sae_run.id,
        "model": sae_run.inputs["model"],
        "prompts": _digest(interview),
    }
    if interview.mode == "generate":
        inputs["reading"] = RULES
    if judge:
        inputs |= inputs_of(judge)
    pinned = replace(settings, sae=sae_run.id)
    build = partial(_build, study, pinned, interview, judge, progress)
    return study.make("kang", pinned, inputs, build)


def _digest(interview: RoleInterview) -> str:
    """Give the SHA-256 of all that is asked."""
    prompts = [q.prompt for role in interview.roles[:2] for q in ask(interview, role)]
    orders = [q.prompt for q in ask_ordered(interview, interview.roles[-1])]
    texts = repr([interview.roles, interview.items, prompts, orders])
    return hashlib.sha256(texts.encode()).hexdigest()


def _build(
    study: Workspace,
    settings: KangSettings,
    interview: RoleInterview,
    judge: Judge | None,
    progress: Progress,
    work: Work,
) -> dict[str, Any]:
    """Interview the roles, write the run's tables, and give its figures."""
    sae_run = study.resolve("sae", settings.sae)
    where = _where(settings, interview)
    treatments = _treatments(study, sae_run, settings, interview, where)
    steered = SteeredModel(
        model=study.model_of(sae_run),
        site=site_of(sae_run),
        edit=edit_for(study, sae_run, [treatment.steering for treatment in treatments]),
        treatments=treatments,
    )
    answers, prompts = measure(work, interview, steered, progress, judge)
    scores = _scores(answers)
    people = [{"role": r.number, "split": r.split, "text": r.text} for r in interview.roles]
    work.table("kang_roles", people)
    work.table("kang_answers", answers, sort=("split", "role", "kind", "feature", "value"))
    score_rows = pa.Table.from_pandas(scores, preserve_index=False)
    work.table("kang_scores", score_rows, sort=("split", "kind", "feature", "role"))
    work.table("prompts", prompts, sort=("context", "wording", "order"))
    values = [value.id for value in interview.items.values]
    descendants, figures = _graph(work, settings, _table(scores, values, "train"), progress)
    tallies = _Tallies(
        train=_table(scores, values, "train"),
        test=_table(scores, values, "test"),
        smallest=_smallest_change(settings, interview),
    )
    graphs = _graphs(interview, values, descendants)
    figures |= _metrics(work, settings, tallies, graphs)
    # JSON knows no NaN.
    figures = {name: None if figure != figure else figure for name, figure in figures.items()}
    return figures | {
        "mode": interview.mode,
        "values": len(values),
        "features": [t.feature for t in treatments if t.kind == "feature"],
        "roles": settings.roles,
        "test_roles": settings.test_roles,
        "answers": answers.num_rows,
        "missing": int(scores.missing.sum()),
        "steered_at": str(where),
    }


# What is asked


def _interview(study: Workspace, settings: KangSettings, model: str) -> RoleInterview:
    """Draw roles and items, and settle how the model answers."""
    is_organism = model == material.ORGANISM
    mode = settings.mode
    if mode == "auto":
        mode = "rating" if is_organism else "yes-no"
    if is_organism and mode != "rating":
        raise BadInput(
            f"The organism answers from 1 to 6 and cannot say yes or no, got mode {mode}. Use mode"
            " rating."
        )
    if mode == "rating" and settings.items:
        raise BadInput(
            "A table of yes-or-no questions has no rating options. Use mode yes-no or generate."
        )
    instrument = one_scale(settings.instrument, study.system)
    if settings.items:
        items, values = roles.from_table(Path(settings.items))
    else:
        measured = registry.get("values", instrument.system).values
        items, values = roles.from_instrument(instrument, measured, mode != "rating")
    return RoleInterview(
        model=model,
        mode=mode,
        instrument=instrument,
        wording=default_wordings(study, settings.instrument, model)[0],
        items=roles.split(items, values, settings.train_share, settings.least_items, settings.seed),
        roles=roles.roles(model, settings.roles, settings.test_roles, settings.seed),
        sample=settings.sample,
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
    )


def _where(settings: KangSettings, interview: RoleInterview) -> Where:
    """Say which tokens are steered: a span of the prompt, or the whole prompt."""
    span = settings.span
    if not span and interview.mode != "rating":
        span = roles.wordings()["prompts"]["span"]
    return Span(span) if span else "prompt"


def _smallest_change(settings: KangSettings, interview: RoleInterview) -> float:
    """Say which change of a score counts [score]; what is written has whole steps alone."""
    if settings.smallest_change >= 0:
        return settings.smallest_change
    return 0.0 if interview.mode == "generate" else 0.1


def _treatments(
    study: Workspace,
    sae_run: Run,
    settings: KangSettings,
    interview: RoleInterview,
    where: Where,
) -> list[Treatment]:
    """List the features, then random directions as long as the features' steps on average."""
    features = list(settings.features)
    if not features:
        free_roles = [role for role in interview.roles if role.number == NOBODY]
        prompts = [q.prompt for role in free_roles for q in ask(interview, role)]
        features = strongest_features(study, sae_run, prompts, where, settings.top)
    sae = study.sae(sae_run)
    if wrong := [feature for feature in features if not 0 <= feature < sae.n_features]:
        raise BadInput(
            f"The SAE has features 0 to {sae.n_features - 1}, got feature"
            f" {wrong[0]}. Correct --features."
        )
    lengths = [SHARE * sae_run.summary["median_norm"]] * len(features)
    if settings.coef:
        norms = sae.directions(features).norm(dim=-1).tolist()
        lengths = [settings.coef * norm for norm in norms]
    steered = [
        Treatment("feature", feature, _addition(length, where, features=((feature, 1.0),)))
        for feature, length in zip(features, lengths, strict=True)
    ]
    mean = float(np.mean(np.abs(lengths)))
    seeds = [settings.seed * 100_000 + n for n in range(settings.random_directions)]
    return steered + [
        Treatment("random-direction", n, _addition(mean, where, random=seed))
        for n, seed in enumerate(seeds)
    ]


def _addition(length: float, where: Where, **direction: Any) -> Steering:
    """Give the steering that adds a step of a length [residual units] along a direction."""
    return Steering(method="add", strength=length, unit="raw", positions=where, **direction)


# What was answered


def _scores(answers: pa.Table) -> pd.DataFrame:
    """Give the rows of `kang_scores`: what was not parsed enters no mean, and is counted."""
    frame = answers.select(
        ["split", "role", "kind", "feature", "value", "score", "status"]
    ).to_pandas()
    frame["parsed"] = frame.status == "parsed"
    frame["missing"] = ~frame.parsed
    groups = frame.groupby(["split", "role", "kind", "feature", "value"], as_index=False)
    return groups.agg(score=("score", "mean"), parsed=("parsed", "sum"), missing=("missing", "sum"))


def _table(scores: pd.DataFrame, values: Sequence[str], split: str) -> pd.DataFrame:
    """Lay out the scores of one split as (kind, feature, role) x value."""
    part = scores[scores.split == split].pivot(
        index=["kind", "feature", "role"], columns="value", values="score"
    )
    return part.reindex(columns=list(values))


# The graph


def _graph(
    work: Work, settings: KangSettings, table: pd.DataFrame, progress: Progress
) -> tuple[Bool[np.ndarray, "value value"] | None, dict[str, Any]]:
    """Find the graph in the scores of training roles, and write `kang_edges`.

    Gives its descendants and its figures. Where PC is undefined there are no descendants, and the
    reason stands among the figures: the answers are worth keeping.
    """
    rows = table.loc[["none", "feature"]]
    data, people = rows.to_numpy(), rows.index.get_level_values("role").to_numpy()
    try:
        graph = pc.discover(data, settings.alpha)
        frequencies = _bootstrap(work, settings, data, people, progress)
    except BadInput as error:
        work.table("kang_edges", [])
        return None, {"rows": int(np.isfinite(data).all(1).sum()), "no_graph": str(error)}
    work.table("kang_edges", _edge_rows(list(table.columns), graph, frequencies))
    median = None
    if graph.edges.any():
        median = float(np.median(frequencies.edges[graph.edges]))
    return pc.closure(graph.edges), {
        "rows": graph.rows,
        "rows_left_out": len(data) - graph.rows,
        "edges": int(graph.edges.sum()),
        "oriented": int(graph.oriented.sum()),
        "median_frequency": median,
        "replicates": frequencies.replicates,
    }


def _bootstrap(
    work: Work,
    settings: KangSettings,
    data: Float[np.ndarray, "row value"],
    people: Int[np.ndarray, " row"],
    progress: Progress,
) -> pc.GraphFrequencies:
    """Repeat the discovery on resampled roles, keeping a few replicates at a time."""
    done = work.done("bootstrap")
    for number, start in enumerate(range(0, settings.replicates, REPLICATES)):
        numbers = range(start, min(start + REPLICATES, settings.replicates))
        if number not in done:
            graphs = [pc.replicate(data, people, settings.seed, k, settings.alpha) for k in numbers]
            flat = [None if edges is None else edges.ravel().tolist() for edges in graphs]
            column = pa.array(flat, pa.list_(pa.bool_()))
            work.part("bootstrap", number, pa.table({"edges": column}))
        progress("resampling roles", numbers[-1] + 1, settings.replicates)
    size = data.shape[1]
    replicates = [
        None if edges is None else np.array(edges).reshape(size, size)
        for edges in work.parts("bootstrap")["edges"].to_pylist()
    ]
    return pc.frequencies(replicates)


def _edge_rows(
    values: Sequence[str], graph: pc.DiscoveredGraph, frequencies: pc.GraphFrequencies
) -> list[dict[str, Any]]:
    """Give the rows of the relation `kang_edges`: every ordered pair of values."""
    descends, reduced = pc.closure(graph.edges), pc.reduction(graph.edges)
    rows = []
    for i, source in enumerate(values):
        for j, target in enumerate(values):
            if i == j:
                continue
            rows.append(
                {
                    "source": source,
                    "target": target,
                    "present": bool(graph.edges[i, j]),
                    "oriented": bool(graph.oriented[i, j]),
                    "reduced": bool(reduced[i, j]),
                    "descends": bool(descends[i, j]),
                    "frequency": float(frequencies.edges[i, j]),
                    "descent_frequency": float(frequencies.descendants[i, j]),
                }
            )
    return rows


def _graphs(
    interview: RoleInterview, values: Sequence[str], descendants: np.ndarray | None
) -> dict[str, Bool[np.ndarray, "value value"]]:
    """Give the descendants in PC's graph and, on the organism, in the planted one."""
    graphs = {} if descendants is None else {"pc": descendants}
    if interview.model == material.ORGANISM:
        truth = organism.truth()
        places = [truth.values.index(value) for value in values]
        graphs["planted"] = pc.closure(truth.graph[np.ix_(places, places)] != 0)
    return graphs


# The metrics


@dataclass(frozen=True)
class _Tallies:
    """How the scores of roles moved under each treatment, in both splits."""

    train: pd.DataFrame
    """Scores of training roles, (kind, feature, role) x value."""
    test: pd.DataFrame
    """Scores of test roles, the same."""
    smallest: float
    """Change of a score that counts [score]."""

    @property
    def values(self) -> list[str]:
        """Ids of the values, in the order of every array."""
        return list(self.test.columns)

    @property
    def kinds(self) -> list[str]:
        """Kinds of treatment that edit the residual."""
        return [kind for kind in ("feature", "random-direction") if kind in self.test.index]

    @cached_property
    def unsteered(self) -> pd.DataFrame:
        """Scores of test roles without a treatment, role x value; the row without a role too."""
        return self.test.loc["none"].droplevel("feature")

    @cached_property
    def base(self) -> pd.DataFrame:
        """Scores of test roles without a treatment, role x value."""
        return self.unsteered.drop(NOBODY)

    @cached_property
    def moved(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Kind -> signs of the changes of training and test roles [role, feature, value]."""
        moved = {}
        for kind in self.kinds:
            train, test = _changes(self.train, kind), _changes(self.test, kind)
            moved[kind] = (
                metrics.signs(train, self.smallest),
                metrics.signs(test, self.smallest),
            )
        return moved

    @cached_property
    def counts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Kind -> training and test roles that rose, stayed, fell [feature, value, 3]."""
        return {
            kind: (metrics.counts(train), metrics.counts(test))
            for kind, (train, test) in self.moved.items()
        }

    def features(self, kind: str) -> list[int]:
        """List the features or numbers of directions of a kind, in the order of its arrays."""
        return self.test.loc[kind].index.get_level_values("feature").unique().tolist()


def _changes(table: pd.DataFrame, kind: str) -> Float[np.ndarray, "role feature value"]:
    """Give the change of every role under every treatment of a kind, against itself unsteered."""
    base = table.loc["none"].droplevel("feature").drop(NOBODY)
    treated = table.loc[kind]
    changes = []
    for feature in treated.index.get_level_values("feature").unique():
        changes.append(treated.loc[feature].reindex(base.index).to_numpy() - base.to_numpy())
    return np.stack(changes, axis=1)


def _metrics(
    work: Work,
    settings: KangSettings,
    tallies: _Tallies,
    graphs: dict[str, Bool[np.ndarray, "value value"]],
) -> dict[str, Any]:
    """Write `kang_counts`, `kang_side_effects` and `kang_control`, and give their figures."""
    count_rows = []
    for kind in tallies.kinds:
        count_rows += _count_rows(tallies, kind)
    work.table("kang_counts", count_rows)
    train, test = tallies.counts["feature"]
    agreement = metrics.agreement(train, test, settings.permutations, settings.seed)
    effects = _side_effects(settings, tallies, graphs)
    effect_rows = [
        {"graph": graph, "by": by} | effect._asdict() for (graph, by), effect in effects.items()
    ]
    work.table("kang_side_effects", effect_rows)
    control_rows = []
    for direction in ORDERS:
        control_rows += _control_rows(tallies, direction)
    work.table("kang_control", control_rows)
    figures = {
        "smallest_change": tallies.smallest,
        "cosine": agreement.mean,
        "cosine_null": agreement.null,
        "cosine_p": agreement.p,
    }
    for (graph, by), effect in effects.items():
        if graph == "pc" and by != "random-direction":
            figures |= {
                f"expected_{by}": effect.expected,
                f"unexpected_{by}": effect.unexpected,
                f"p_{by}": effect.p,
            }
    return figures


def _side_effects(
    settings: KangSettings,
    tallies: _Tallies,
    graphs: dict[str, Bool[np.ndarray, "value value"]],
) -> dict[tuple[str, str], metrics.SideEffects]:
    """Compare every graph with the changes by roles and by treatments: (graph, what moved) ->
    effect.

    A role's change is its difference from no role at all. Roles are the clusters.
    """
    base = tallies.base
    people = base.index.to_numpy()
    by_role = (base - tallies.unsteered.loc[NOBODY]).to_numpy()
    rows = {"role": (metrics.signs(by_role, tallies.smallest), people)}
    for kind, (_, test) in tallies.moved.items():
        clusters = np.repeat(people, test.shape[1])
        rows[kind] = (test.reshape(-1, test.shape[2]), clusters)
    effects = {}
    for graph, descendants in graphs.items():
        for by, (moved, clusters) in rows.items():
            effects[graph, by] = metrics.side_effects(
                moved, clusters, descendants, settings.permutations, settings.seed
            )
    return effects


def _count_rows(tallies: _Tallies, kind: str) -> list[dict[str, Any]]:
    """Give the rows of the relation `kang_counts` of one kind of treatment."""
    train, test = tallies.counts[kind]
    cosine = metrics.cosines(train, test)
    rows = []
    for f, feature in enumerate(tallies.features(kind)):
        for j, value in enumerate(tallies.values):
            row = {"kind": kind, "feature": feature, "value": value, "cosine": float(cosine[f, j])}
            for k, name in enumerate(("up", "same", "down")):
                row[f"train_{name}"] = int(train[f, j, k])
                row[f"test_{name}"] = int(test[f, j, k])
            rows.append(row)
    return rows


def _control_rows(tallies: _Tallies, direction: int) -> list[dict[str, Any]]:
    """Give the rows of `kang_control` for one direction of every value (+1 up, -1 down).

    They set the best feature and the best random direction beside the outright prompt.
    """
    rows = []
    for kind, (_, test) in tallies.moved.items():
        features = tallies.features(kind)
        best = metrics.best(tallies.counts[kind][0], direction)
        for j, value in enumerate(tallies.values):
            row = {"value": value, "by": kind, "feature": features[best[j]]}
            rows.append(row | metrics.moved_shares(test[:, best[j], j])._asdict())
    base = tallies.base
    prompted = tallies.test.loc[ORDERS[direction]].droplevel("feature").reindex(base.index)
    moved = metrics.signs((prompted - base).to_numpy(), tallies.smallest)
    for j, value in enumerate(tallies.values):
        row = {"value": value, "by": "prompt", "feature": -1}
        rows.append(row | metrics.moved_shares(moved[:, j])._asdict())
    return [row | {"direction": direction} for row in rows]
