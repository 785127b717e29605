"""Score labels by what their labelers did not decide: what steering the feature does, and contexts
that no labeler saw.

1. Runs of labels of one SAE are scored together, by default the newest of each labeler, so that
   methods stand beside each other under the same measurements.
2. `causal` and `beside` come from a sweep that steered features one by one, whichever method chose
   them (`causal/causal_scores.py`): nothing is measured anew.
3. `embedding`, `detection`, `fuzzing` and `intruder` are asked of held-out contexts
   (`features/context_scores.py`), of a judge where one is named, else of a sentence encoder.
4. `output` is the published output score (`features/promoted_scores.py`); ours is measured by the
   verb `label`.
5. Every score is kept beside its label (`label_scores`), and summed up by method
   (`method_scores`), with what wrong values would reach.

Where no scores are named all are made that can be, and what cannot is said in one line. Left out:
scores decide nothing. No label is accepted or rejected by them.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from feature_store import queries
from feature_store.bounds import Count, Replicates, Seed
from feature_store.errors import BadInput, Incompatible, NotFound, nearest
from feature_store.progress import Progress, stage
from feature_store.records import Run
from feature_store.work import Work
from sae_training.model.sentences import SentenceEncoder
from workbench import material
from workbench.causal.causal_scores import (
    SteeredFeatures,
    causal_scores,
    passed_by_other_values,
)
from workbench.features import context_scores, held_out_contexts, promoted_scores
from workbench.llm import Judge
from workbench.llm.judges import inputs_of, open_judge
from workbench.statistics.intervals import bootstrap_mean
from workbench.steering.probes import wilson
from workbench.sweeps.damage import match
from workbench.sweeps.stored import read_sweep
from workbench.workspace import Workspace, site_of

OF_CONTEXTS = ("embedding", "detection", "fuzzing", "intruder")
"""Scores that are asked of held-out contexts."""
SCORES = ("causal", *OF_CONTEXTS, "output")
"""Scores that can be named; `causal` brings `beside` along."""
UNLABELLED = 100
"""Features without a label whose output scores are what chance reaches."""
ENCODER = "minilm"
"""Sentence encoder where none is named."""
ORGANISM_PROMPT = "I am"
"""Neutral prompt in the organism's small language."""
KEYS = ("labels", "feature", "value", "polarity")
"""Columns that name a label."""


@dataclasses.dataclass(frozen=True)
class ScoreSettings:
    """Which labels are scored, and by what."""

    sae: str = "latest"
    """Run of the SAE whose labels are scored."""
    labels: tuple[str, ...] = ()
    """Runs of labels; none: the newest of each labeler."""
    scores: tuple[str, ...] = ()
    """causal, embedding, detection, fuzzing, intruder, output; none: all that can be made."""
    effects: str = "latest"
    """Run of the sweep behind the causal scores; `latest`: the newest that steered features of this
    SAE one by one, and not in rounds."""
    per_run: Count = 60
    """Labels of each run that are scored on contexts, drawn at random [labels]."""
    n_contexts: Count = 10
    """Held-out contexts of each label in which its feature is active, and as many in which it is
    not [contexts]."""
    encoder: str = ENCODER
    """Sentence encoder of the contexts: minilm, once it was fetched, or a folder."""
    judge: str = ""
    """Language model that is asked about contexts: local:FOLDER-OR-HUB-ID, or
    https://host/v1#model; empty: none, the encoder decides."""
    prompt: str = ""
    """Neutral prompt of the output score; empty: the published one, or the organism's own."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of the bootstrap, of which labels and contexts are drawn, and of the features without a
    label."""

    def __post_init__(self) -> None:
        for name in self.scores:
            if name not in SCORES:
                raise BadInput(
                    f"Scores are {', '.join(SCORES)}, got {name!r}.{nearest(name, SCORES)}"
                )
        if "fuzzing" in self.scores and not self.judge:
            raise BadInput("Fuzzing asks about marked tokens. Name who is asked with --judge.")


class ScoringPlan(NamedTuple):
    """What is scored, and by what."""

    sae: Run
    """The SAE's run."""
    labels: tuple[Run, ...]
    """Runs of labels, one a method or more."""
    sweep: Run | None
    """The sweep behind the causal scores; None: they are not made."""
    encoder: context_scores.TextEncoder | None
    """Places contexts; None: none is there, or none is needed."""
    judge: Judge | None
    """Whoever is asked about contexts; None: nobody."""
    output: bool
    """Whether the output score is made."""
    missing: dict[str, str]
    """Score -> why it is not made."""


class Scored(NamedTuple):
    """Rows of `label_scores`, and what wrong values would reach."""

    rows: list[dict[str, Any]]
    """The rows."""
    chance_shares: dict[tuple[str, str], float]
    """(run of labels, score) -> share of the labels that pass with another value [0 to 1]."""
    unread: int = 0
    """Verdicts of a judge that could not be read."""


def run(study: Workspace, settings: ScoreSettings, progress: Progress) -> Run:
    """Score labels; make a run of kind `scores`."""
    plan = _plan(study, settings)
    pinned = dataclasses.replace(
        settings,
        sae=plan.sae.id,
        labels=tuple(label_run.id for label_run in plan.labels),
        effects=plan.sweep.id if plan.sweep else "",
    )
    inputs = {"sae": plan.sae.id}
    inputs |= {f"labels {k}": label_run.id for k, label_run in enumerate(plan.labels)}
    if plan.sweep:
        inputs["effects"] = plan.sweep.id
    if plan.judge:
        inputs |= {**inputs_of(plan.judge), "prompts": context_scores.PROMPTS}
    if plan.encoder:
        inputs["encoder"] = plan.encoder.name
    return study.make("scores", pinned, inputs, partial(_score, study, pinned, plan, progress))


def first_lines(study: Workspace, run: Run) -> list[str]:
    """Say how each method's labels do by each score."""
    return [
        f"{row.method}, {row.score}: {row.share:.0%} of {row.n} labels pass"
        f" [{row.share_low:.0%}, {row.share_high:.0%}]"
        + ("" if pd.isna(row.chance_share) else f", {row.chance_share:.0%} with another value")
        + f"; mean {row.figure:+.2f}"
        for row in queries.method_scores(study.store, run.id).itertuples()
        if row.n
    ]


def _plan(study: Workspace, settings: ScoreSettings) -> ScoringPlan:
    """Find what is scored and by what.

    Raises NotFound or Incompatible where a score that is named cannot be made, or none can.
    """
    sae_run = study.resolve("sae", settings.sae)
    label_runs = _label_runs(study, sae_run, settings.labels)
    missing: dict[str, str] = {}

    def made(names: Sequence[str], named: bool, find: Callable[[], Any]) -> Any:
        """Find what scores need; None where it is not there and nobody asked for it."""
        if settings.scores and not set(names) & set(settings.scores):
            return None
        try:
            return find()
        except (NotFound, Incompatible) as error:
            if named or settings.scores:
                raise
            missing[" ".join(names)] = str(error)
            return None

    sweep_named = settings.effects != "latest"
    sweep = made(["causal"], sweep_named, lambda: _sweep(study, sae_run, settings.effects))
    asked = bool(settings.judge) or settings.encoder != ENCODER
    samples = made(
        OF_CONTEXTS, asked, lambda: held_out_contexts.check_sampled(study.store, sae_run.id)
    )
    judge = encoder = None
    if samples and settings.judge:
        judge = open_judge(settings.judge, study.model, study.folder / "answers.jsonl")
    if samples and (not settings.judge or "embedding" in (settings.scores or OF_CONTEXTS)):
        encoder = made(OF_CONTEXTS, asked, lambda: SentenceEncoder(settings.encoder))
    output = made(["output"], bool(settings.prompt), lambda: True)
    plan = ScoringPlan(
        sae=sae_run,
        labels=label_runs,
        sweep=sweep,
        encoder=encoder,
        judge=judge,
        output=bool(output),
        missing=missing,
    )
    return plan


def _label_runs(study: Workspace, sae_run: Run, names: Sequence[str]) -> tuple[Run, ...]:
    """Find the runs of labels that are scored."""
    if not names:
        names = list(queries.label_runs(study.store, sae_run.id).drop_duplicates("labeler").run)
    if not names:
        raise NotFound(f"No feature of {sae_run.id} is labelled. Run `workbench label` first.")
    label_runs = tuple(study.resolve("labels", name) for name in dict.fromkeys(names))
    for label_run in label_runs:
        if label_run.inputs["sae"] != sae_run.id:
            raise Incompatible(
                f"{label_run.id} labels features of {label_run.inputs['sae']}, {sae_run.id} is"
                " scored. Name its labels, or the other SAE with --sae."
            )
    return label_runs


def _sweep(study: Workspace, sae_run: Run, name: str) -> Run:
    """Find the sweep behind the causal scores."""
    if name != "latest":
        sweep_run = study.resolve("effects", name)
        if _steers(study, sweep_run) != sae_run.id:
            raise Incompatible(
                f"{sweep_run.id} steered features of another SAE than {sae_run.id}. Name a sweep of"
                " this one with --effects."
            )
        return sweep_run
    for candidate in queries.candidates(study.store, "effects").run:
        sweep_run = study.runs.get(candidate)
        config = sweep_run.config
        one_by_one = config.get("steer", "features") == "features" and not config.get("until")
        if one_by_one and _steers(study, sweep_run) == sae_run.id:
            return study.resolve("effects", candidate)
    raise NotFound(
        f"No sweep steered features of {sae_run.id} one by one. Run `workbench effects` first."
    )


def _steers(study: Workspace, sweep_run: Run) -> str:
    """Id of the SAE's run whose features a sweep steered."""
    return study.runs.get(sweep_run.inputs["labels"]).inputs["sae"]


def _score(
    study: Workspace, settings: ScoreSettings, plan: ScoringPlan, progress: Progress, work: Work
) -> dict[str, Any]:
    """Score the labels, write both relations, and return the run's figures."""
    for names, reason in plan.missing.items():
        warnings.warn(f"Not scored: {names.replace(' ', ', ')}. {reason}", stacklevel=2)
    labels = _accepted(study, plan.labels)
    parts = []
    if plan.sweep:
        progress("scoring by steering", 0, 1)
        parts.append(_by_steering(study, settings, plan.sweep, labels))
        progress("scoring by steering", 1, 1)
    if plan.encoder or plan.judge:
        parts.append(_on_contexts(study, settings, plan, labels, progress))
    missing = dict(plan.missing)
    if plan.output:
        try:
            parts.append(_by_promoted_tokens(study, settings, plan.sae, labels, progress))
        except Incompatible as error:
            if settings.scores:
                raise
            missing["output"] = str(error)
            warnings.warn(f"Not scored: output. {error}", stacklevel=2)
    rows = [row for part in parts for row in part.rows]
    shares = {key: share for part in parts for key, share in part.chance_shares.items()}
    work.table("label_scores", rows, sort=("feature", "value", "labels", "score"))
    work.table("method_scores", _by_method(rows, shares, plan, labels, settings))
    return {
        "labels": len(labels),
        "scored": len({tuple(row[key] for key in KEYS) for row in rows}),
        "methods": [label_run.config["labeler"] for label_run in plan.labels],
        "scores": sorted({row["score"] for row in rows}),
        "unread": sum(part.unread for part in parts),
        **({"missing": missing} if missing else {}),
    }


def _accepted(study: Workspace, label_runs: Sequence[Run]) -> pd.DataFrame:
    """Read the accepted labels of all runs: labels, feature, value, polarity."""
    return study.store.sql(
        """
        SELECT run AS labels, feature, value, polarity FROM labels
        WHERE accepted AND list_contains(?, run) ORDER BY run, feature, value, polarity""",
        [[label_run.id for label_run in label_runs]],
    )


def _by_steering(
    study: Workspace, settings: ScoreSettings, sweep_run: Run, labels: pd.DataFrame
) -> Scored:
    """Score labels by the sweep."""
    sweep = read_sweep(study, sweep_run.id)
    steered = SteeredFeatures.of(
        match(sweep, sweep_run.config["delta"]), sweep.values, sweep.unsteered_sd()
    )
    rows = causal_scores(steered, labels, settings.replicates, settings.seed)
    shares = {
        (id, "causal"): passed_by_other_values(steered, part, settings.replicates, settings.seed)
        for id, part in labels.groupby("labels")
    }
    return Scored([{**row, "source": sweep_run.id} for row in rows], shares)


def _on_contexts(
    study: Workspace,
    settings: ScoreSettings,
    plan: ScoringPlan,
    labels: pd.DataFrame,
    progress: Progress,
) -> Scored:
    """Score a sample of the labels of each run on held-out contexts."""
    drawn = pd.concat(
        [
            part.sample(min(len(part), settings.per_run), random_state=settings.seed)
            for _, part in labels.groupby("labels")
        ]
    )
    features = sorted(set(drawn.feature.tolist()))
    held = held_out_contexts.held_out_contexts(
        study.store, plan.sae.id, features, settings.n_contexts, settings.seed
    )
    drawn = drawn[drawn.feature.isin(held)]
    rows: list[dict[str, Any]] = []
    shares: dict[tuple[str, str], float] = {}
    unread = 0
    if plan.encoder and held:
        encoded = context_scores.EncodedContexts(held, study.system, plan.encoder, settings.seed)
        # What a judge is asked about, the encoder need not guess.
        skipped = {"detection", "intruder"} if plan.judge else set()
        rows += _rows(drawn, encoded, plan.encoder.name, settings, skipped)
        shares = _with_other_values(drawn, encoded, set(OF_CONTEXTS) - skipped, study.system.ids)
    if plan.judge:
        judged = context_scores.JudgedContexts(held, study.system, plan.judge, settings.seed)
        shown = stage(progress, "asking the judge")
        rows += _rows(drawn, judged, plan.judge.name, settings, set(), shown)
        unread = judged.unread
    return Scored(rows, shares, unread)


def _rows(
    labels: pd.DataFrame,
    scorer: context_scores.EncodedContexts | context_scores.JudgedContexts,
    source: str,
    settings: ScoreSettings,
    skipped: set[str],
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Score labels, as rows of `label_scores`; one without a readable answer has no row."""
    rows = []
    for number, label in enumerate(labels.itertuples(), 1):
        identity = {key: getattr(label, key) for key in KEYS}
        for score in scorer.scores(label.feature, label.value):
            wanted = not settings.scores or score.score in settings.scores
            if wanted and score.n and score.score not in skipped:
                rows.append({**identity, **context_scores.as_row(score), "source": source})
        if progress:
            progress(number, len(labels))
    return rows


def _with_other_values(
    labels: pd.DataFrame,
    encoded: context_scores.EncodedContexts,
    names: set[str],
    values: Sequence[str],
) -> dict[tuple[str, str], float]:
    """Say how often labels pass on the same contexts with another value; no intruder names one."""
    passed: dict[tuple[str, str], list[bool]] = {}
    for label in labels.itertuples():
        for value in values:
            if value == label.value:
                continue
            for score in encoded.scores(label.feature, value):
                if score.score in names - {"intruder"} and score.n:
                    row = context_scores.as_row(score)
                    passed.setdefault((label.labels, score.score), []).append(row["passed"])
    return {key: float(np.mean(flags)) for key, flags in passed.items()}


def _by_promoted_tokens(
    study: Workspace,
    settings: ScoreSettings,
    sae_run: Run,
    labels: pd.DataFrame,
    progress: Progress,
) -> Scored:
    """Give every labelled feature its published output score, beside features without a label."""
    labelled = sorted(set(labels.feature.tolist()))
    others = study.store.sql(
        "SELECT feature FROM features WHERE run = ? AND n_active > 0 ORDER BY feature", [sae_run.id]
    ).feature
    others = others[~others.isin(labelled)]
    drawn = others.sample(min(len(others), UNLABELLED), random_state=settings.seed).tolist()
    prompt = settings.prompt
    if not prompt:
        is_organism = material.is_organism(sae_run.config["model"])
        prompt = ORGANISM_PROMPT if is_organism else promoted_scores.PROMPT
    scores = promoted_scores.promoted_scores(
        study.model_of(sae_run),
        study.sae(sae_run),
        site_of(sae_run),
        [*labelled, *drawn],
        prompt,
        stage(progress, "raising features"),
    )
    figures = dict(zip(labelled, scores, strict=False))
    by_chance = scores[len(labelled) :]
    chance = float(np.nanquantile(by_chance, 0.975)) if len(by_chance) else np.nan
    rows = [
        {
            **{key: getattr(label, key) for key in KEYS},
            "score": "output",
            "figure": float(figures[label.feature]),
            "low": np.nan,
            "high": np.nan,
            "n": 1,
            "chance": chance,
            "passed": bool(figures[label.feature] > chance),
            "source": f"{promoted_scores.TOKENS} promoted tokens after {prompt!r}",
        }
        for label in labels.itertuples()
    ]
    return Scored(rows, {})


def _by_method(
    rows: Sequence[Mapping[str, Any]],
    chance_shares: Mapping[tuple[str, str], float],
    plan: ScoringPlan,
    labels: pd.DataFrame,
    settings: ScoreSettings,
) -> list[dict[str, Any]]:
    """Sum scores up by run of labels and score; a run without scored labels has n = 0."""
    table = pd.DataFrame(rows, columns=[*KEYS, "score", "figure", "passed"])
    summaries = []
    for label_run in plan.labels:
        of_run = table[table["labels"] == label_run.id]
        for score in sorted(set(table.score)):
            part = of_run[of_run.score == score]
            summaries.append(
                {
                    "labels": label_run.id,
                    "method": label_run.config["labeler"],
                    "score": score,
                    "chance_share": chance_shares.get((label_run.id, score), np.nan),
                    "accepted": int((labels["labels"] == label_run.id).sum()),
                    **_summed_up(part, settings),
                }
            )
    return summaries


def _summed_up(part: pd.DataFrame, settings: ScoreSettings) -> Mapping[str, Any]:
    """Average a method's scores, and count what passed; NaN without any."""
    figures = part.figure.to_numpy(float)
    if not np.isfinite(figures).any():
        unknown = ("figure", "low", "high", "share", "share_low", "share_high")
        return dict.fromkeys(unknown, np.nan) | {"n": 0}
    mean = bootstrap_mean(figures, settings.replicates, settings.seed)
    share = float(part.passed.mean())
    low, high = wilson(share, len(part))
    return {
        "figure": float(mean.mean),
        "low": float(mean.low),
        "high": float(mean.high),
        "share": share,
        "share_low": low,
        "share_high": high,
        "n": len(part),
    }
