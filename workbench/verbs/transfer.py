"""Does a label carry over? Steer what the labels chose, and let independent ears judge the texts.

1. Each value's features (and stored directions) are steered up and down at equal damage to neutral
   text (`sweeps/equal_damage.py`), beside random features, random directions and a prompt.
2. The model continues the same openings under each, sampled from the same seeds, and unsteered.
3. Ears (`comparing/ears.py`) rate every text: an assessor fitted on labelled texts that are not
   those of the labels, a sentence encoder, on the organism its known language. How good each ear is
   stands beside it, on texts that it never saw.
4. `comparing/transfer.py` says which values are heard, and which are heard that were not steered.

What instruments say of the same labels is laid beside it by `queries.judged_labels`.
Left out: a choice of the strength by what is heard; there is one strength, that of equal damage.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float

from feature_store import queries, registry
from feature_store.bounds import (
    MANY,
    Between,
    Count,
    CountOfTexts,
    Permutations,
    Plugin,
    Positive,
    Replicates,
    Seed,
    TextColumn,
)
from feature_store.errors import BadInput, WorkbenchError
from feature_store.progress import Progress
from feature_store.records import Positions, Run, Steering, Unit
from feature_store.registry import Registry
from feature_store.work import Work
from sae_training.model import catalogue
from sae_training.model.sentences import SentenceEncoder
from workbench import material, organism
from workbench.causal import targets
from workbench.comparing import ears, transfer
from workbench.comparing.transfer import Drawing, EarScores, SteeredArm
from workbench.features import output_scores
from workbench.settings import contents, options
from workbench.statistics.intervals import bootstrap_mean, known_mean
from workbench.steering.directions import KINDS
from workbench.sweeps import equal_damage, sweep, texts, value_prompts
from workbench.sweeps.arms import PlannedArm
from workbench.sweeps.equal_damage import DamageBudget, MatchedArm
from workbench.sweeps.stored import edited_model, unlabelled_features
from workbench.sweeps.sweep import ChosenBy
from workbench.systems.value_pilot.assessors import Fitter
from workbench.workspace import Workspace

ASSESSORS: Registry[Fitter] = registry.of("assessors")
OPENINGS = Path(__file__).parents[1] / "comparing" / "openings.toml"
"""Open questions that ship, for models that speak."""
ORGANISM_TEXTS = 4_000
"""Labelled texts of the organism, where no number is given."""
OTHER_TEXTS = 500_009
"""Added to the seed, so that the organism writes other texts than those that made the labels."""


@dataclasses.dataclass(frozen=True)
class TransferSettings:
    """What is steered, what the model writes, and who listens."""

    labels: str = "latest"
    """Run of the labels; its SAE is steered."""
    probes: str = ""
    """Run of the probes whose directions are steered beside the features; empty: none."""
    values: tuple[str, ...] = ()
    """Values to steer; none: all that have features."""
    evidence: Literal["accepted", "best"] = "accepted"
    """Features whose label was accepted, or those with the best evidence, accepted or not."""
    features_per_value: Count = 8
    """Features of each value, steered as one direction."""
    choose: ChosenBy = "output"
    """By which score accepted labels come first, as in `effects`."""
    method: Annotated[str, Plugin("steerings")] = "add"
    """Steering plug-in."""
    doses: Annotated[tuple[float, ...], Between(0, MANY)] = (0.05, 0.1, 0.2, 0.4)
    """Strengths of the damage curve, positive and rising [unit]."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of
    the median residual norm."""
    positions: Positions = "all"
    """Which tokens are steered."""
    delta: Positive = 0.1
    """Damage at which all is steered: rise of the loss on neutral text [nats per token]."""
    controls: Annotated[int, Between(2, MANY)] = 16
    """Groups of random features, and as many random directions."""
    neutral: str = ""
    """File or folder with neutral text; empty: that made for the model."""
    text_column: TextColumn = ""
    """Column with the neutral text of a table."""
    n_neutral: Annotated[int, Between(2, MANY)] = 16
    """Neutral texts."""
    prompts: str = ""
    """TOML with the sentences of the prompts; empty: the shipped ones, on the organism sentences
    of its own language."""
    questions: str = ""
    """File of openings that are answered in text; empty: open questions that ship (the organism
    continues its own openings)."""
    n_texts: Annotated[int, Between(4, MANY)] = 24
    """Openings, the clusters of the intervals; at most as many as there are."""
    new_tokens: Count = 40
    """Longest continuation [tokens]."""
    assessor: Annotated[str, Plugin("assessors")] = "tfidf"
    """Assessor plug-in that is fitted on the labelled texts; empty: none."""
    options: tuple[str, ...] = ()
    """The assessor's settings, as key=value."""
    encoder: str = ""
    """Sentence encoder: minilm, once it was fetched, or a folder; empty: none."""
    assess_texts: str = ""
    """Value-labelled table that fits the assessor and says how good each ear is; other texts than
    those of the labels. Empty: on the organism texts that it writes."""
    assess_labels: str = ""
    """Second table with the marks, joined by the columns that both have."""
    assess_text_column: str = "text"
    """Column with the text."""
    assess_context: str = ""
    """Column whose texts stay together, such as a topic, when some are held out."""
    assess_ignore: tuple[str, ...] = ()
    """Columns of marks that are no value of this system."""
    assess_scale: str = ""
    """Smallest and largest mark, as in `label`."""
    assess_limit: CountOfTexts = 0
    """At most this many texts, sampled [texts]; 0: all (4,000 of the organism's)."""
    held_out: Annotated[float, Between(0.05, 0.95)] = 0.3
    """Share of these texts that no ear sees before it is held against them."""
    replicates: Replicates = 1000
    """Bootstrap replicates."""
    permutations: Permutations = 2000
    """Permutations behind the p of a rank."""
    seed: Seed = 0
    """Seed of controls, openings, sampling, the held-out texts and the bootstrap."""


class LabelledSplit(NamedTuple):
    """Labelled texts, and those of them that no ear sees before it is held against them."""

    documents: material.LabelledDocuments
    """All texts that are not among those of the labels."""
    is_held_out: np.ndarray
    """Whether a text is kept back [document]."""
    account: str
    """What became of texts that the labels were made of, in words."""


class TransferSetup(NamedTuple):
    """What is steered, written and heard."""

    label_run: Run
    """Run of the labels."""
    sae_run: Run
    """Run of the SAE, which names the model and the place."""
    units: list[PlannedArm]
    """Every unit of the values and every control, without a strength."""
    prompted: list[PlannedArm]
    """A prompt for every value."""
    budget: DamageBudget
    """Equal damage, and the neutral texts on which it is measured."""
    openings: list[str]
    """What is continued."""
    split: LabelledSplit
    """Labelled texts for the ears."""
    account: str
    """How many features are steered, and how many of them carry an accepted label, in words."""

    @property
    def digest(self) -> str:
        """Checksum of all texts that decide the run [SHA-256]."""
        documents = self.split.documents
        parts = (
            self.openings,
            self.budget.neutral,
            [arm.prompt for arm in self.prompted],
            documents.texts,
            documents.values.tolist(),
            self.split.is_held_out.tolist(),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def values(self) -> list[str]:
        """Ids of the values that are steered."""
        return [arm.value for arm in self.prompted]


def run(study: Workspace, settings: TransferSettings, progress: Progress) -> Run:
    """Steer the labels' choice and let ears judge the texts; make a run of kind `transfer`."""
    label_run = study.resolve("labels", settings.labels)
    probe_run = study.resolve("probes", settings.probes) if settings.probes else None
    setup = _set_up(study, settings, label_run, probe_run)
    inputs = {
        "labels": label_run.id,
        "sae": setup.sae_run.id,
        "model": setup.sae_run.inputs["model"],
        "texts": setup.digest,
    }
    if probe_run:
        inputs["probes"] = probe_run.id
    if files := _files(settings):
        inputs["files"] = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    pinned = dataclasses.replace(
        settings, labels=label_run.id, probes=probe_run.id if probe_run else ""
    )
    build = partial(_transfer, study, pinned, setup, progress)
    return study.make("transfer", pinned, inputs, build)


def _files(settings: TransferSettings) -> dict[str, str]:
    """Sum up what the assessor's settings and the encoder's name mean: setting -> checksum.

    A named encoder lies elsewhere on each machine, so its folder is no part of the key.
    """
    files = contents(settings.options)
    if settings.encoder:
        read = contents([f"encoder={catalogue.place(settings.encoder, 'embedder')}"])
        files |= {f"encoder={settings.encoder}": checksum for checksum in read.values()}
    return files


# What is steered, and what is continued


def _set_up(
    study: Workspace, settings: TransferSettings, label_run: Run, probe_run: Run | None
) -> TransferSetup:
    """Collect units, prompts, openings and labelled texts; refuse what cannot be measured."""
    sae_run = study.resolve("sae", label_run.inputs["sae"])
    model_name = sae_run.config["model"]
    _refuse_without_ear(settings, model_name)
    labels = output_scores.with_outputs(study, label_run.id)
    chosen = _chosen(study, settings, label_run, labels)
    values = _values(study, settings, label_run, chosen)
    free = unlabelled_features(study, sae_run, labels)
    sources = equal_damage.UnitSources(
        chosen=chosen,
        directions=_directions(values, probe_run),
        unlabelled=sorted(set(free) - set(chosen.feature)),
        controls=settings.controls,
        seed=settings.seed,
    )
    template = Steering(method=settings.method, unit=settings.unit, positions=settings.positions)
    neutral = material.neutral(
        settings.neutral or material.default_source(model_name),
        settings.n_neutral,
        settings.seed,
        settings.text_column,
    )
    openings = _openings(study, settings, model_name)
    units = equal_damage.plan(sources, values, template)
    prompts = _prompts(study, settings, model_name, values, openings)
    return TransferSetup(
        label_run=label_run,
        sae_run=sae_run,
        units=units,
        prompted=_prompted(values, prompts, first=len(units)),
        budget=DamageBudget(settings.delta, settings.doses, tuple(neutral)),
        openings=openings,
        split=_labelled_split(study, settings, label_run, sae_run),
        account=_account(chosen[chosen.value.isin(values)]),
    )


def _account(chosen: pd.DataFrame) -> str:
    """Say how many features are steered, and how many of them carry an accepted label."""
    return f"{len(chosen)}, {int(chosen.accepted.sum())} with an accepted label"


def _chosen(
    study: Workspace, settings: TransferSettings, label_run: Run, labels: pd.DataFrame
) -> pd.DataFrame:
    """The features of each value: feature, value, polarity, accepted."""
    if settings.evidence == "accepted":
        return sweep.choose_features(labels, settings.features_per_value, settings.choose)
    chosen = queries.best_evidence(study.store, label_run.id, settings.features_per_value)
    if chosen.empty:
        raise BadInput(
            f"{label_run.id} has no feature with any evidence of a value. Label more texts."
        )
    return chosen


def _values(
    study: Workspace, settings: TransferSettings, label_run: Run, chosen: pd.DataFrame
) -> list[str]:
    """Ids of the values that are steered. Raises BadInput for one that has no feature."""
    able = set(chosen.value)
    values = list(dict.fromkeys(map(study.system.resolve, settings.values)))
    values = values or [value for value in study.system.ids if value in able]
    if missing := [value for value in values if value not in able]:
        raise BadInput(
            f"{label_run.id} has no feature for {', '.join(missing)}. Leave it out with --values,"
            " or take --evidence best."
        )
    return values


def _directions(values: Sequence[str], probe_run: Run | None) -> dict[str, dict[str, str]]:
    """Arm -> value -> stored direction; nothing without probes."""
    if probe_run is None:
        return {}
    probed = [value for value in values if value in probe_run.summary["probed"]]
    return {kind: {value: f"{probe_run.id}/{value}/{kind}" for value in probed} for kind in KINDS}


def _openings(study: Workspace, settings: TransferSettings, model_name: str) -> list[str]:
    """What is continued. Raises BadInput where there are fewer than four."""
    if model_name == material.ORGANISM and not settings.questions:
        return organism.openings(settings.n_texts, settings.seed + 1)
    questions = targets.questions(settings.questions or str(OPENINGS), study.system)
    if len(questions) < 4:
        raise BadInput(
            f"{settings.questions} has {len(questions)} openings, intervals need four or more. Give"
            " more questions."
        )
    return [question.text for question in questions][: settings.n_texts]


def _prompts(
    study: Workspace,
    settings: TransferSettings,
    model_name: str,
    values: Sequence[str],
    openings: Sequence[str],
) -> list[str]:
    """A prompt of one sentence for every value; on the organism of its own language."""
    if model_name == material.ORGANISM and not settings.prompts:
        ladders = [
            value_prompts.organism_ladder(study.system[value], 1, openings, settings.seed)
            for value in values
        ]
    else:
        sentences = value_prompts.read(settings.prompts)
        ladders = [value_prompts.ladder(study.system[value], 1, sentences) for value in values]
    return [ladder[0] for ladder in ladders]


def _prompted(values: Sequence[str], prompts: Sequence[str], first: int) -> list[PlannedArm]:
    """An arm for every value's prompt, its units numbered from `first`."""
    return [
        PlannedArm(
            arm="prompt",
            value=value,
            kind="prompt",
            unit_id=first + number,
            dose=1.0,
            steering=Steering(),
            prompt=prompt,
        )
        for number, (value, prompt) in enumerate(zip(values, prompts, strict=True))
    ]


# Who listens


def _labelled_split(
    study: Workspace, settings: TransferSettings, label_run: Run, sae_run: Run
) -> LabelledSplit:
    """Read the labelled texts for the ears, without those that made the labels, and hold some out.

    Raises BadInput where no text is left, or where no table was given.
    """
    is_organism = sae_run.config["model"] == material.ORGANISM
    if not settings.assess_texts and not is_organism:
        raise BadInput(
            "Ears are fitted and held against labelled texts, other ones than those of the labels."
            " Give them with --assess-texts and --assess-labels."
        )
    source = material.LabelledSource(
        texts=settings.assess_texts or material.ORGANISM,
        marks=settings.assess_labels,
        text_column=settings.assess_text_column,
        context_column=settings.assess_context,
        ignored_columns=settings.assess_ignore,
        scale=settings.assess_scale,
    )
    of_organism = source.texts == material.ORGANISM
    model = None if of_organism else study.model_of(sae_run)
    limit = settings.assess_limit or (ORGANISM_TEXTS if of_organism else 0)
    seed = settings.seed + OTHER_TEXTS * of_organism
    documents = material.labelled(source, study.system, limit, seed, model)
    documents, account = _without_label_texts(study, documents, label_run, model)
    # The organism's topics are few, and no column was named that keeps texts together.
    contexts = documents.contexts if settings.assess_context else np.full(len(documents.texts), "")
    return LabelledSplit(
        documents=documents,
        is_held_out=ears.hold_out(contexts, settings.held_out, settings.seed),
        account=account,
    )


def _without_label_texts(
    study: Workspace, documents: material.LabelledDocuments, label_run: Run, model: Any
) -> tuple[material.LabelledDocuments, str]:
    """Leave out the texts that the labels were made of, and say what became of them.

    An ear that was fitted on them would hear the labels' evidence a second time.
    """
    config = label_run.config
    source = material.LabelledSource(
        texts=config["labelled"],
        marks=config["labels"],
        text_column=config["text"],
        context_column=config["context"],
        ignored_columns=config["ignore"],
        scale=config.get("scale", ""),
    )
    try:
        made_of = material.labelled(source, study.system, config["limit"], config["seed"], model)
    except WorkbenchError as error:
        return documents, f"texts of the labels cannot be read, overlap not known ({error})"
    known = {_plain(text) for text in made_of.texts}
    keep = np.array([_plain(text) not in known for text in documents.texts])
    if not keep.any():
        raise BadInput(
            f"All {len(keep)} texts for the ears are among those that {label_run.id} was made of,"
            " so no ear would be independent. Give another split with --assess-texts."
        )
    rows = np.flatnonzero(keep)
    documents = documents._replace(
        texts=[documents.texts[row] for row in rows],
        values=documents.values[rows],
        contexts=documents.contexts[rows],
    )
    return documents, f"{int((~keep).sum())} texts of the labels left out, {len(rows)} kept"


def _plain(text: str) -> str:
    """Write a text so that case and spacing make no difference."""
    return " ".join(text.casefold().split())


def _ears(study: Workspace, settings: TransferSettings, setup: TransferSetup) -> list[ears.Ear]:
    """Fit the assessor, load the encoder; on the organism its language is known as well."""
    documents, is_held_out, _ = setup.split
    listening: list[ears.Ear] = []
    if settings.assessor:
        fitter = ASSESSORS[settings.assessor]
        config: Any = options(fitter.config, settings.options)
        seen = np.flatnonzero(~is_held_out)
        texts_seen = [documents.texts[row] for row in seen]
        fitted = fitter.fit(texts_seen, documents.values[seen], config)
        name = f"assessor {settings.assessor}"
        listening.append(ears.AssessorEar(name, lambda texts: fitted.assess(texts).rating))
    if settings.encoder:
        encoder = SentenceEncoder(settings.encoder)
        listening.append(ears.EncoderEar(encoder.name, encoder.texts, study.system.values))
    if setup.sae_run.config["model"] == material.ORGANISM:
        listening.append(ears.LanguageEar(study.system.ids))
    return listening


def _refuse_without_ear(settings: TransferSettings, model_name: str) -> None:
    """Raise BadInput where nobody is left to listen; the organism's language is known."""
    if not (settings.assessor or settings.encoder or model_name == material.ORGANISM):
        raise BadInput("Nobody listens. Give an --assessor, an --encoder, or both.")


# What is written and heard


class WrittenTexts(NamedTuple):
    """What was written after every opening; the first row is unsteered, row k + 1 arm k."""

    texts: list[str]
    """All texts, opening by opening."""
    losses: Float[np.ndarray, "row opening"]
    """The unsteered model's mean loss on each [nats per token]; NaN for an empty text."""
    tokens: np.ndarray
    """Length of each [tokens]."""
    broken: np.ndarray
    """Whether nothing is heard in it."""

    def table(self, written: pa.Table) -> pa.Table:
        """Rows of `transfer_texts`, from those of `sweeps/texts.py`."""
        return written.append_column("tokens", pa.array(self.tokens.ravel())).append_column(
            "broken", pa.array(self.broken.ravel())
        )


def _transfer(
    study: Workspace,
    settings: TransferSettings,
    setup: TransferSetup,
    progress: Progress,
    work: Work,
) -> dict[str, Any]:
    """Match, write, listen and judge into a run, and return its figures."""
    # Before the model writes: an ear that cannot be fitted, or an opening that is too long.
    model = study.model_of(setup.sae_run)
    material_of_none = sweep.SweepMaterial((), ())
    value_prompts.refuse_too_long(model, setup.prompted, material_of_none, setup.openings)
    progress("fitting ears", 0, 1)
    listening = _ears(study, settings, setup)
    quality = [_quality(ear, setup.split, study.system.ids) for ear in listening]
    progress("fitting ears", 1, 1)
    edited = partial(edited_model, study, setup.sae_run)
    matched = equal_damage.match(work, edited, setup.units, setup.budget, progress)
    matched += _after_prompts(model, setup)
    planned = [arm.planned for arm in matched]
    to_continue = texts.Openings(setup.openings, settings.new_tokens, settings.seed)
    steered = edited([arm.steering for arm in planned])
    table = texts.write(work, steered, planned, to_continue, progress)
    written = _read(table, model, len(setup.openings))
    progress("listening", 0, 1)
    heard = [
        _scores(ear, rows, written, study.system.ids)
        for ear, rows in zip(listening, quality, strict=True)
    ]
    drawing = Drawing(settings.replicates, settings.permutations, settings.seed)
    results = [transfer.judge(scores, _steered_arms(planned), drawing) for scores in heard]
    ranks = [row for result in results for row in result.ranks]
    work.table("transfer_ears", [row for rows in quality for row in rows])
    work.table("transfer_arms", _arm_rows(matched, written, settings))
    work.table("transfer_texts", written.table(table), sort=("intervention", "opening"))
    work.table("transfer_scores", pa.concat_tables(map(_score_rows, heard)))
    work.table("transfer_effects", [row for result in results for row in result.effects])
    work.table("transfer_ranks", ranks)
    progress("listening", 1, 1)
    return _figures(study, setup, matched, written) | _heard_figures(quality, ranks)


def _after_prompts(model: Any, setup: TransferSetup) -> list[MatchedArm]:
    """The prompts with their damage; they have one strength, and no way down."""
    # As a question without lines is asked: a space stands between.
    prefixes = [f"{arm.prompt} " for arm in setup.prompted]
    damage = value_prompts.rises(model, prefixes, setup.budget.neutral)
    return [
        MatchedArm(planned=arm, reached=bool(row.mean() >= setup.budget.delta), damage=row)
        for arm, row in zip(setup.prompted, damage, strict=True)
    ]


def _read(table: pa.Table, model: Any, openings: int) -> WrittenTexts:
    """Lay out what was written, and say which texts are broken."""
    written = table["text"].to_pylist()
    losses = table["loss"].to_numpy().reshape(-1, openings)
    lengths = [len(ids) - len(model.before) for ids in model.tokenize(written)]
    return WrittenTexts(
        texts=written,
        losses=losses,
        tokens=np.array(lengths, dtype=np.int32).reshape(losses.shape),
        broken=transfer.is_broken(losses, losses[0]),
    )


def _quality(ear: ears.Ear, split: LabelledSplit, values: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of `transfer_ears`: an ear held against the texts that no ear saw."""
    rows = np.flatnonzero(split.is_held_out)
    scores = ear.hear([split.documents.texts[row] for row in rows])
    measured = ears.quality(scores, split.documents.values[rows], values)
    return [{"ear": ear.name, **row} for row in measured]


def _scores(
    ear: ears.Ear, quality: list[dict[str, Any]], written: WrittenTexts, values: tuple[str, ...]
) -> EarScores:
    """Have an ear rate all texts; nothing is heard in broken ones."""
    shape = written.losses.shape
    scores = ear.hear(written.texts).reshape(*shape, len(values))
    scores = np.where(written.broken[..., None], np.nan, scores)
    return EarScores(
        ear=ear.name,
        values=values,
        unit=np.array([row["sd"] for row in quality]),
        unsteered=scores[0],
        steered=scores[1:],
    )


def _turn(arm: PlannedArm) -> transfer.Turn:
    """Which way an arm steers; a prompt has one way."""
    return "down" if arm.dose < 0 else "up"


def _steered_arms(planned: Sequence[PlannedArm]) -> list[SteeredArm]:
    """What every intervention steers, and which way."""
    return [
        SteeredArm(arm=arm.arm, value=arm.value, unit_id=arm.unit_id, turn=_turn(arm))
        for arm in planned
    ]


def _score_rows(scores: EarScores) -> pa.Table:
    """Rows of `transfer_scores`."""
    every = np.concatenate([scores.unsteered[None], scores.steered])
    interventions, openings, values = every.shape
    return pa.table(
        {
            "ear": [scores.ear] * every.size,
            "intervention": np.repeat(np.arange(-1, interventions - 1), openings * values),
            "opening": np.tile(np.repeat(np.arange(openings), values), interventions),
            "value": list(scores.values) * (interventions * openings),
            "score": every.ravel(),
        }
    )


def _arm_rows(
    matched: Sequence[MatchedArm], written: WrittenTexts, settings: TransferSettings
) -> list[dict[str, Any]]:
    """Rows of `transfer_arms`, the unsteered one first."""
    strange = np.concatenate([written.losses[:1], written.losses[1:] - written.losses[0]])
    stranger = bootstrap_mean(strange.T, settings.replicates, settings.seed)
    damage = np.stack([np.zeros(settings.n_neutral), *(arm.damage for arm in matched)])
    harm = bootstrap_mean(damage.T, settings.replicates, settings.seed)
    unsteered = PlannedArm(
        arm="unsteered", value="", kind="direction", unit_id=-1, dose=0.0, steering=Steering()
    )
    return [
        {
            "intervention": number - 1,
            "arm": arm.arm,
            "value": arm.value,
            "turn": _turn(arm) if number else "",
            "unit_id": arm.unit_id,
            "steering": arm.row(number)["steering"],
            "prompt": arm.prompt,
            "strength": arm.dose,
            "reached": matched[number - 1].reached if number else True,
            "damage": float(harm.mean[number]),
            "damage_low": float(harm.low[number]),
            "damage_high": float(harm.high[number]),
            "damage_n": int(harm.n[number]),
            "strange": float(stranger.mean[number]),
            "strange_low": float(stranger.low[number]),
            "strange_high": float(stranger.high[number]),
            "strange_n": int(stranger.n[number]),
            "tokens": float(written.tokens[number].mean()),
            "broken": int(written.broken[number].sum()),
            "texts": written.broken.shape[1],
        }
        for number, arm in enumerate([unsteered, *(arm.planned for arm in matched)])
    ]


# The run's few figures


def _figures(
    study: Workspace, setup: TransferSetup, matched: Sequence[MatchedArm], written: WrittenTexts
) -> dict[str, Any]:
    """What was steered and written."""
    matched = [arm for arm in matched if not arm.planned.prompt]
    steered = [arm for arm in matched if arm.planned.arm not in transfer.CONTROLS]
    controls = [arm for arm in matched if arm.planned.arm in transfer.CONTROLS]
    left_out = [value for value in study.system.ids if value not in setup.values]
    return {
        "values": len(setup.values),
        "features": setup.account,
        "left_out": ", ".join(left_out) or "none",
        "openings": len(setup.openings),
        "written": len(written.texts),
        "broken": int(written.broken.sum()),
        "matched": f"{sum(arm.reached for arm in matched)} of {len(matched)} reach the damage",
        "damage_steered": float(np.mean([arm.damage.mean() for arm in steered])),
        "damage_controls": float(np.mean([arm.damage.mean() for arm in controls])),
        "labelled_texts": setup.split.account,
    }


def _heard_figures(
    quality: Sequence[list[dict[str, Any]]], ranks: Sequence[dict[str, Any]]
) -> dict[str, str]:
    """What every ear hears, one line an ear and an arm that is steered up."""
    figures = {}
    for rows in quality:
        areas = [row["auroc"] for row in rows]
        mean = f"{known_mean(np.array(areas), 0):.2f}"
        figures[f"{rows[0]['ear']} on texts it never saw"] = f"AUROC {mean}, n {rows[0]['n']}"
    for row in ranks:
        if row["turn"] == "up":
            figures[f"{row['arm']} by {row['ear']}"] = (
                f"rank {row['rank']:.2f} [{row['low']:.2f}, {row['high']:.2f}] p {row['p']:.2g},"
                f" {row['heard']} of {row['n_values']} heard, {row['others_moved']} of"
                f" {row['others']} others moved"
            )
    return figures
