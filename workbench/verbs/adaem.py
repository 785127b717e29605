"""Find questions that tell a population of models, or of steered variants of one model, apart by
their values (AdAEM, Duan et al. 2026).

1. Seed questions are topics: of a file, or the organism's own situations. A bandit chooses which to
   refine; a language model rewrites, or on the organism a composer of its language; the population
   answers; a classifier reads the values (`workbench/systems/adaem`).
2. The best questions are asked anew, with seeds and opinions that the search never saw, beside the
   seeds: how much better they separate the population, with interval, chance level, and what
   choosing among the seeds alone would have brought.
3. Members are rated value by value: OR of several opinions, TrueSkill, win rate.
4. `items.json` in the run's folder is the new instrument: `workbench measure --instrument adaem
   --settings items=RUN_FOLDER`.

Answers and scores are kept as they come, so an interrupted run asks nothing twice.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from feature_store.bounds import (
    MANY,
    Between,
    Count,
    CountOrZero,
    Plugin,
    Seed,
    Temperature,
    TextColumn,
)
from feature_store.errors import BadInput
from feature_store.files import write_atomically
from feature_store.progress import Progress
from feature_store.records import Run, Steering, Unit, ValueSystem
from feature_store.work import Work
from workbench import material, organism
from workbench.causal import targets
from workbench.llm import Judge, open_llm
from workbench.llm.cached import CachedLLM
from workbench.llm.judges import inputs_of, open_judge, self_agreement
from workbench.settings import Resampling
from workbench.systems.adaem import asking, population, ratings, report, rewriting
from workbench.systems.adaem.asking import Asker, ReadQuestion
from workbench.systems.adaem.classifiers import (
    HELD,
    JudgeClassifier,
    OpinionClassifier,
    PlantedClassifier,
)
from workbench.systems.adaem.classifiers import question as question_for_judge
from workbench.systems.adaem.divergence import Distance
from workbench.systems.adaem.population import MemberSettings, Population
from workbench.systems.adaem.search import (
    PART,
    SEED,
    Search,
    SearchObjective,
    SearchOutcome,
    SearchSettings,
)
from workbench.workspace import Workspace

ANEW = 4
"""Questions asked anew between two checkpoints."""
AGREED = 20
"""Opinions on which the judge's agreement with itself is measured."""
FIGURES = (
    "separation",
    "chance",
    "ratio",
    "ratio_low",
    "ratio_high",
    "beyond",
    "beyond_low",
    "beyond_high",
)
"""Columns of the new questions' row of `adaem_separation` that the run's summary repeats."""


@dataclasses.dataclass(frozen=True)
class AdaemSettings(Resampling):
    """Settings of `adaem`: the population, the search, the report, and who reads and rewrites."""

    population: tuple[str, ...] = ()
    """Members: base, VALUE+ or VALUE- (steered), RUN/VALUE/KIND+ or - (stored direction),
    primed:VALUE, organism, local:MODEL, https://host/v1#model."""
    labels: str = "latest"
    """Run of the labels; its SAE's features steer `VALUE+` and `VALUE-`."""
    sae: str = "latest"
    """Run of the SAE where no labels are needed."""
    features_per_value: Count = 8
    """Features of each value, steered as one direction."""
    method: Annotated[str, Plugin("steerings")] = "add"
    """Steering plug-in."""
    strength: Annotated[float, Between(-MANY, MANY)] = 0.45
    """How far every steered member is steered, up or down [unit]."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of
    the median residual norm."""
    seeds: str = ""
    """File with one seed question a line, or a table; empty: the organism's situations, or the
    shipped everyday questions."""
    text_column: TextColumn = ""
    """Column of the seed questions in a table; empty: `text`, or the only one."""
    n_seeds: CountOrZero = 20
    """Seed questions, one a topic (N1; the paper: 1535); 0: all of the file."""
    budget: int = 60
    """Pulls of the bandit (B; the paper: 1500)."""
    rewrites: int = 3
    """New questions a pull (N2)."""
    opinions: int = 12
    """Opinions of every member on every question of the search."""
    kept: int = 8
    """Of these, those that the response step keeps."""
    beta: float = 1.0
    """Weight of the distance between the question's values and the members'."""
    distance: Distance = "js"
    """js: Jensen-Shannon, the paper's objective; tv: total variation, as in its second line."""
    averaged: bool = True
    """Divide the second term by the number of members, as the objective does and the paper's
    second line does not."""
    questions: int = 10
    """Questions of the new instrument, at most one a topic."""
    fresh: int = 30
    """Opinions of every member on every question of the report."""
    answer: int = 5
    """Opinions that make one answer, by OR, when members are rated."""
    temperature: Temperature = 1.0
    """Sampling temperature of the members."""
    new_tokens: Count = 0
    """Longest opinion [tokens]; 0: 24 for the organism, 96 for others."""
    llm: str = ""
    """Language model that rewrites: local:FOLDER-OR-HUB-ID or https://host/v1#model; empty: on
    the organism a composer of its language."""
    llm_temperature: Temperature = 0.8
    """Sampling temperature of the rewriter."""
    llm_tokens: Count = 600
    """Longest reply of the rewriter [tokens]."""
    judge: str = ""
    """Language model that reads values: local:FOLDER-OR-HUB-ID or https://host/v1#model; empty:
    on the organism its known language."""
    seed: Seed = 0
    """Seed of opinions, rewriting, sampled seeds and bootstrap."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Lab:
    """The run that is made, and all that its steps need."""

    work: Work
    """The run."""
    asker: Asker
    """Asks the population and has its opinions read."""
    settings: AdaemSettings
    """Settings of the run."""
    progress: Progress
    """Shows how far it is."""

    @property
    def members(self) -> list[str]:
        """Name the members, in their order."""
        return [member.name for member in self.asker.population.members]

    @property
    def values(self) -> tuple[str, ...]:
        """Name the values, in circle order."""
        return self.asker.system.ids


@dataclasses.dataclass(frozen=True, eq=False)
class _Evidence:
    """What the report rests on."""

    outcome: SearchOutcome
    """What the search asked and chose."""
    sets: dict[str, list[int]]
    """Set of questions -> numbers of its questions."""
    fresh: dict[int, ReadQuestion]
    """Number -> the question asked anew."""

    def held(self, members: int) -> dict[int, Float[np.ndarray, "member opinion value"]]:
        """Give the values that fresh opinions hold, by the number of the question."""
        return {number: read.by_member(members) for number, read in self.fresh.items()}


def run(study: Workspace, settings: AdaemSettings, progress: Progress) -> Run:
    """Make a run of kind `adaem`."""
    _check(settings)
    labels, sae_run = _labels_and_sae(study, settings)
    people = _population(study, settings, labels, sae_run)
    judge = _judge(study, settings, people.is_organism)
    rewriter = _rewriter(study, settings, people.is_organism)
    seeds = _seeds(study, settings, people.is_organism)
    inputs = {"population": _digest(people, seeds), "rewriter": rewriter.name}
    if labels:
        inputs["labels"] = labels.id
    if sae_run:
        inputs["sae"] = sae_run.id
    if judge:
        inputs |= inputs_of(judge)

    def build(work: Work) -> dict[str, Any]:
        """Search, ask the best questions and the seeds anew, and report."""
        lab = _Lab(
            work=work,
            asker=_asker(study, settings, people, judge),
            settings=settings,
            progress=progress,
        )
        search = Search(
            work, lab.asker, rewriter, _objective(settings), _search_settings(settings), progress
        )
        outcome = search.run(seeds)
        sets = _sets(outcome, settings)
        numbers = sorted({number for numbers in sets.values() for number in numbers})
        evidence = _Evidence(outcome=outcome, sets=sets, fresh=_ask_anew(lab, outcome, numbers))
        progress("analysing", 0, 1)
        figures = _report(lab, evidence)
        if judge:
            figures |= _agreement(judge, outcome, study.system)
        items = json.dumps(_items(lab, evidence), indent=1)
        write_atomically(work.folder / "items.json", items)
        progress("analysing", 1, 1)
        return {
            "members": len(people.members),
            "topics": len(seeds),
            "pulls": settings.budget,
            "questions": len(outcome.tried),
            "classifier": lab.asker.classifier.name,
            "rewriter": rewriter.name,
            **figures,
        }

    pinned = dataclasses.replace(
        settings, labels=labels.id if labels else "", sae=sae_run.id if sae_run else ""
    )
    return study.make("adaem", pinned, inputs, build)


def _check(settings: AdaemSettings) -> None:
    """Raise BadInput where a number is out of range."""
    keeps_some = 1 <= settings.kept <= settings.opinions
    if settings.opinions < 2 or not keeps_some or settings.rewrites < 1 or settings.budget < 0:
        raise BadInput(
            "A search takes at least 2 opinions, keeps 1 to all of them, and rewrites at least 1"
            " question a pull; got others."
        )
    answers = 1 <= settings.answer <= settings.fresh
    if settings.questions < 2 or settings.fresh < 2 or not answers or settings.n_seeds < 0:
        raise BadInput(
            "A report takes at least 2 questions and 2 fresh opinions, of which 1 to all make one"
            " answer; got others."
        )
    if settings.temperature <= 0 or settings.strength <= 0 or settings.beta < 0:
        raise BadInput(
            "Opinions are sampled at a temperature above 0, members steered by a strength above 0,"
            " and beta is not negative; got others."
        )


def _labels_and_sae(study: Workspace, settings: AdaemSettings) -> tuple[Run | None, Run | None]:
    """Resolve the labels and the SAE, where a member needs them."""
    labels = None
    if population.needs_labels(settings.population):
        labels = study.resolve("labels", settings.labels)
    if not population.needs_sae(settings.population):
        return labels, None
    if labels:
        return labels, study.resolve("sae", labels.inputs["sae"])
    return None, study.resolve("sae", settings.sae)


def _population(
    study: Workspace, settings: AdaemSettings, labels: Run | None, sae_run: Run | None
) -> Population:
    """Open every member that the settings name."""
    models = [_model(name, sae_run) for name in settings.population]
    making = MemberSettings(
        per_value=settings.features_per_value,
        template=Steering(method=settings.method, strength=settings.strength, unit=settings.unit),
        is_organism=all(map(material.is_organism, models)),
        seed=settings.seed,
    )
    members = population.plan(settings.population, study, labels, making)
    return population.open_population(study, members, sae_run)


def _model(name: str, sae_run: Run | None) -> str:
    """Give the address of a member's model."""
    if population.is_address(name):
        return name.removeprefix("local:")
    return sae_run.config["model"] if sae_run else ""


def _digest(people: Population, seeds: list[str]) -> str:
    """Digest who is asked, as what, and about what (SHA-256)."""
    members = [
        (member.name, member.persona, respondent.name)
        for member, respondent in zip(people.members, people.respondents, strict=True)
    ]
    return hashlib.sha256(repr([members, seeds]).encode()).hexdigest()


def _judge(study: Workspace, settings: AdaemSettings, is_organism: bool) -> Judge | None:
    """Open the judge that reads values; the organism's language needs none."""
    if settings.judge:
        return open_judge(settings.judge, study.model, study.folder / "answers.jsonl")
    if is_organism:
        return None
    raise BadInput(
        "Nobody was told to read which values an opinion holds. Name a language model with --judge."
    )


def _rewriter(study: Workspace, settings: AdaemSettings, is_organism: bool) -> rewriting.Rewriter:
    """Open the language model that rewrites, or compose in the organism's language."""
    if settings.llm:
        llm = CachedLLM(open_llm(settings.llm, study.model), study.folder / "answers.jsonl")
        return rewriting.LLMRewriter(llm, settings.llm_temperature, settings.llm_tokens)
    if is_organism:
        return rewriting.ComposedRewriter()
    raise BadInput("Nobody was told to rewrite questions. Name a language model with --llm.")


def _seeds(study: Workspace, settings: AdaemSettings, is_organism: bool) -> list[str]:
    """Read the seed questions. Raises BadInput for fewer than two, or the same one twice."""
    if is_organism and not settings.seeds:
        texts = organism.situations(settings.n_seeds or 20, settings.seed)
    else:
        texts = (
            material.lines(settings.seeds, settings.text_column)
            if settings.seeds
            else [question.text for question in targets.questions("", study.system)]
        )
        texts = material.sample(texts, settings.n_seeds, settings.seed)
    seeds = [text.strip() for text in texts if text.strip()]
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise BadInput(
            f"A search needs at least two different seed questions, got {len(seeds)},"
            f" {len(set(seeds))} of them different. Correct --seeds."
        )
    return seeds


def _asker(
    study: Workspace, settings: AdaemSettings, people: Population, judge: Judge | None
) -> Asker:
    """Say who reads the opinions, and by whose word they go with their questions."""
    classifier: OpinionClassifier = PlantedClassifier(study.system)
    if judge:
        classifier = JudgeClassifier(judge, study.system)
    if people.model:
        coherence = asking.by_model(people.model)
    else:
        assert judge is not None  # only the organism, which runs here, needs none
        coherence = asking.by_judge(judge)
    return Asker(
        population=people,
        classifier=classifier,
        coherence=coherence,
        system=study.system,
        temperature=settings.temperature,
        new_tokens=settings.new_tokens or (24 if people.is_organism else 96),
    )


def _objective(settings: AdaemSettings) -> SearchObjective:
    return SearchObjective(
        opinions=settings.opinions,
        kept=settings.kept,
        beta=settings.beta,
        distance=settings.distance,
        averaged=settings.averaged,
    )


def _search_settings(settings: AdaemSettings) -> SearchSettings:
    return SearchSettings(pulls=settings.budget, rewrites=settings.rewrites, seed=settings.seed)


def _sets(outcome: SearchOutcome, settings: AdaemSettings) -> dict[str, list[int]]:
    """Choose the questions that the report asks anew, by their numbers."""
    seeds = [question.number for question in outcome.tried if question.pull < 0]
    best = outcome.ranked(outcome.best)[: settings.questions]
    if len(best) < 2:
        raise BadInput(
            f"{len(best)} topics have a question to which every member gave an opinion that could"
            " be read. Give other seeds, or a longer --new-tokens."
        )
    shuffled = np.random.default_rng((settings.seed, 12)).permutation(seeds)
    return {
        "found": best,
        "seed": sorted(map(int, shuffled[: 2 * settings.questions])),
        "best-seed": outcome.ranked(seeds)[: len(best)],
    }


def _ask_anew(lab: _Lab, outcome: SearchOutcome, numbers: Sequence[int]) -> dict[int, ReadQuestion]:
    """Ask questions anew, `ANEW` of them a part of the run."""
    settings = lab.settings
    done = lab.work.done("fresh")
    anew: dict[int, ReadQuestion] = {}
    for start in range(0, len(numbers), ANEW):
        batch = numbers[start : start + ANEW]
        if start not in done:
            texts = [outcome.tried[number].read.text for number in batch]
            asked_before = start * len(lab.members) * settings.fresh
            seed = settings.seed * SEED + SEED // 2 + asked_before
            asked = lab.asker.ask(texts, settings.fresh, seed)
            rows = [row for read in asked for row in asking.rows(read, lab.values)]
            lab.work.part("fresh", start, pa.Table.from_pylist(rows, schema=PART))
        part = asking.from_rows(lab.work.kept("fresh", start).to_pylist(), lab.values)
        anew |= dict(zip(batch, part, strict=True))
        lab.progress("asking anew", start + len(batch), len(numbers))
    return anew


def _report(lab: _Lab, evidence: _Evidence) -> dict[str, Any]:
    """Write every table, and give the run's figures."""
    settings, work, outcome = lab.settings, lab.work, evidence.outcome
    held = evidence.held(len(lab.members))
    apart = {number: report.separation(marks) for number, marks in held.items()}
    dealt = {number: report.chance(marks, settings.seed + number) for number, marks in held.items()}
    searched = {question.number: question.score.separation for question in outcome.tried}
    separation = report.rows(
        _by_set(evidence.sets, apart),
        _by_set(evidence.sets, dealt),
        _by_set(evidence.sets, searched),
        settings.replicates,
        settings.seed,
    )
    rated = ratings.rate(
        np.stack([held[number] for number in evidence.sets["found"]]),
        settings.answer,
        lab.members,
        lab.values,
        settings.replicates,
        settings.seed,
    )
    classifier = {"classifier": lab.asker.classifier.name}
    opinions = _search_opinions(lab, outcome) + _fresh_opinions(lab, evidence.fresh)
    questions = [
        row | {"fresh": apart.get(row["question"]), "chance": dealt.get(row["question"])}
        for row in _question_rows(lab, evidence)
    ]
    work.table("adaem_members", _member_rows(lab.asker.population))
    work.table("adaem_questions", questions, sort=("question",))
    work.table("adaem_opinions", opinions, sort=("stage", "question", "member"))
    work.table("adaem_pulls", _pull_rows(outcome), sort=("pull",))
    work.table("adaem_separation", separation)
    work.table("adaem_ratings", [row | classifier for row in rated], sort=("value", "member"))
    return _figures(evidence, separation)


def _by_set(
    sets: Mapping[str, Sequence[int]], figures: Mapping[int, float]
) -> dict[str, Float[np.ndarray, " question"]]:
    """Sort the figures of questions by the sets they are in."""
    return {
        name: np.array([figures[number] for number in numbers]) for name, numbers in sets.items()
    }


def _member_rows(people: Population) -> list[dict[str, Any]]:
    """Write the rows of `adaem_members`."""
    return [
        {
            "member": member.name,
            "kind": member.kind,
            "respondent": respondent.name,
            "steering": member.steering.name,
            "persona": member.persona,
        }
        for member, respondent in zip(people.members, people.respondents, strict=True)
    ]


def _question_rows(lab: _Lab, evidence: _Evidence) -> list[dict[str, Any]]:
    """Write the rows of `adaem_questions`, without what fresh opinions say."""
    accepted = {pull.accepted for pull in evidence.outcome.pulls}
    return [
        {
            "question": question.number,
            "topic": question.topic,
            "parent": question.parent,
            "pull": question.pull,
            "text": question.read.text,
            "writer": question.writer,
            "score": question.score.total,
            "separation": question.score.separation,
            "distance": question.score.distance,
            "accepted": question.number in accepted,
            "found": question.number in evidence.sets["found"],
            "classifier": lab.asker.classifier.name,
        }
        for question in evidence.outcome.tried
    ]


def _pull_rows(outcome: SearchOutcome) -> list[dict[str, Any]]:
    """Write the rows of `adaem_pulls`."""
    return [
        {
            "pull": number,
            **dataclasses.asdict(pulled.pull),
            "reward": pulled.reward,
            "tried": pulled.tried,
            "accepted": pulled.accepted,
        }
        for number, pulled in enumerate(outcome.pulls)
    ]


def _search_opinions(lab: _Lab, outcome: SearchOutcome) -> list[dict[str, Any]]:
    """Write the rows of `adaem_opinions` that the search asked for, with their criteria."""
    rows = []
    for question in outcome.tried:
        opinions = _opinion_rows(lab, question.read, "search", question.number)
        for row, four, kept in zip(opinions, question.criteria, question.kept, strict=True):
            conformity, coherence, value_difference, semantic_difference = map(float, four)
            rows.append(
                row
                | {
                    "conformity": conformity,
                    "coherence": coherence,
                    "value_difference": value_difference,
                    "semantic_difference": semantic_difference,
                    "kept": bool(kept),
                }
            )
    return rows


def _fresh_opinions(lab: _Lab, fresh: Mapping[int, ReadQuestion]) -> list[dict[str, Any]]:
    """Write the rows of `adaem_opinions` on questions that were asked anew."""
    without = dict.fromkeys(("conformity", "value_difference", "semantic_difference", "kept"))
    return [
        row | without
        for number, read in fresh.items()
        for row in _opinion_rows(lab, read, "fresh", number)
    ]


def _opinion_rows(lab: _Lab, read: ReadQuestion, stage: str, number: int) -> list[dict[str, Any]]:
    """Write what both stages say of an opinion."""
    members = lab.members
    return [
        {
            "stage": stage,
            "question": number,
            "member": members[row["member"]],
            "text": row["text"],
            "status": row["status"],
            "seed": row["seed"],
            "held": row["held"],
            "coherence": row["coherence"],
            "classifier": lab.asker.classifier.name,
            "coherence_by": lab.asker.coherence.name,
        }
        for row in asking.rows(read, lab.values)
    ]


def _figures(evidence: _Evidence, separation: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give how much better the chosen questions separate, and count opinions and pulls."""
    chosen, seeds = separation[0], separation[1]
    figures: dict[str, Any] = {}
    for key in FIGURES:
        figures[key] = None if np.isnan(chosen[key]) else float(chosen[key])
    pulls = evidence.outcome.pulls
    searched = [question.read for question in evidence.outcome.tried]
    opinions = [
        opinion for read in [*searched, *evidence.fresh.values()] for opinion in read.opinions
    ]
    return figures | {
        "seed_separation": float(seeds["separation"]),
        "accepted": sum(pulled.accepted >= 0 for pulled in pulls),
        "pulls_without_questions": sum(not pulled.tried for pulled in pulls),
        "opinions": len(opinions),
        "missing": sum(opinion.status != "parsed" for opinion in opinions),
    }


def _agreement(judge: Judge, outcome: SearchOutcome, system: ValueSystem) -> dict[str, Any]:
    """Measure how far the judge says the same when its options are turned round.

    Warns where that is little.
    """
    texts = [
        opinion.text
        for question in outcome.tried
        for opinion in question.read.opinions
        if opinion.status == "parsed"
    ]
    sample = texts[:: max(len(texts) // AGREED, 1)]
    values = system.values
    requests = [question_for_judge(values[k % len(values)], text) for k, text in enumerate(sample)]
    agreed = self_agreement(judge, requests, HELD)
    return {
        "judge_agreement": agreed.share,
        "judge_kappa": None if np.isnan(agreed.kappa) else agreed.kappa,
    }


def _items(lab: _Lab, evidence: _Evidence) -> dict[str, Any]:
    """Write the new instrument as its file holds it."""
    questions = []
    for number in evidence.sets["found"]:
        tried = evidence.outcome.tried[number]
        held = evidence.fresh[number].by_member(len(lab.members))
        questions.append(
            {
                "id": f"q{number:04d}",
                "topic": tried.topic,
                "text": tried.read.text,
                "writer": tried.writer,
                "separation": round(report.separation(held), 6),
            }
        )
    return {
        "format": 1,
        "system": lab.asker.system.id,
        "run": lab.work.run.id,
        "population": lab.members,
        "classifier": lab.asker.classifier.name,
        "questions": questions,
    }
