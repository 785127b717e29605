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
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

from feature_store.bounds import (
    MANY,
    Between,
    Count,
    CountOrZero,
    Plugin,
    Replicates,
    Seed,
    Temperature,
)
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, Steering, Unit
from feature_store.runs import Work, write_atomically
from workbench import material, organism
from workbench.llm import Judge, open_llm
from workbench.llm.answered import CachedLLM
from workbench.llm.judges import open_judge, self_agreement
from workbench.settings import plain
from workbench.systems.adaem import asking, population, ratings, report, rewriting
from workbench.systems.adaem.asking import Asker, Read
from workbench.systems.adaem.classifiers import HELD, Classifier, Judged, Planted, question
from workbench.systems.adaem.divergence import Distance
from workbench.systems.adaem.search import PART, SEED, Found, Objective, Search
from workbench.workspace import Workspace

ANEW = 4
"""Questions asked anew between two checkpoints."""
AGREED = 20
"""Seed opinions on which the judge's agreement with itself is measured."""


@dataclasses.dataclass(frozen=True)
class AdaemSettings:
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
    """File with one seed question a line; empty: the organism's situations, or the shipped
    everyday questions."""
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
    replicates: Replicates = 2000
    """Bootstrap replicates."""
    seed: Seed = 0
    """Seed of opinions, rewriting, sampled seeds and bootstrap."""


def run(study: Workspace, config: AdaemSettings, progress: Progress) -> Run:
    """A run of kind `adaem`."""
    _check(config)
    labels = (
        study.resolve("labels", config.labels)
        if population.needs_labels(config.population)
        else None
    )
    sae_run = (
        study.runs.get(labels.inputs["sae"])
        if labels
        else study.resolve("sae", config.sae)
        if population.needs_sae(config.population)
        else None
    )
    template = Steering(method=config.method, strength=config.strength, unit=config.unit)
    only = all(_model(name, sae_run) == material.ORGANISM for name in config.population)
    members = population.plan(
        config.population, study, labels, config.features_per_value, template, only, config.seed
    )
    who = population.open_population(study, members, sae_run)
    judge = _judge(study, config, who.own)
    rewriter = _rewriter(study, config, who.own)
    seeds = _seeds(study, config, who.own)
    told = hashlib.sha256(
        repr(
            [
                [
                    (m.name, m.persona, r.name)
                    for m, r in zip(who.members, who.respondents, strict=True)
                ],
                seeds,
            ]
        ).encode()
    ).hexdigest()
    inputs = (
        {"population": told, "rewriter": rewriter.name}
        | ({"labels": labels.id} if labels else {})
        | ({"sae": sae_run.id} if sae_run else {})
    )
    inputs |= {"judge": judge.name} if judge else {}
    plainly = plain(
        dataclasses.replace(
            config, labels=labels.id if labels else "", sae=sae_run.id if sae_run else ""
        )
    )
    if study.runs.exists(id := study.runs.find("adaem", plainly, inputs, config.seed)):
        return study.runs.get(id)
    classifier: Classifier = Judged(judge, study.system) if judge else Planted(study.system)
    coherence = asking.by_model(who.model) if who.model else asking.by_judge(judge)
    asker = Asker(
        population=who,
        classifier=classifier,
        coherence=coherence,
        system=study.system,
        temperature=config.temperature,
        new_tokens=config.new_tokens or (24 if who.own else 96),
    )
    objective = Objective(
        opinions=config.opinions,
        kept=config.kept,
        beta=config.beta,
        distance=config.distance,
        averaged=config.averaged,
    )
    with study.runs.begin("adaem", plainly, inputs, config.seed) as work:
        found = Search(
            work,
            asker,
            rewriter,
            objective,
            seeds,
            config.budget,
            config.rewrites,
            config.seed,
            progress,
        ).run()
        sets = _sets(found, config)
        fresh = _fresh(
            work,
            asker,
            found,
            sorted({n for numbers in sets.values() for n in numbers}),
            config,
            progress,
        )
        progress("analysing", 0, 1)
        figures = _report(work, asker, found, sets, fresh, config)
        figures |= _agreement(judge, found, study) if judge else {}
        write_atomically(
            work.folder / "items.json",
            json.dumps(_items(study, found, fresh, sets["found"], asker, work.run.id), indent=1),
        )
        progress("analysing", 1, 1)
        return work.finish(
            {
                "members": len(members),
                "topics": len(seeds),
                "pulls": config.budget,
                "questions": len(found.tried),
                "classifier": classifier.name,
                "rewriter": rewriter.name,
                **figures,
            }
        )


def _check(config: AdaemSettings) -> None:
    if (
        config.opinions < 2
        or not 1 <= config.kept <= config.opinions
        or config.rewrites < 1
        or config.budget < 0
    ):
        raise BadInput(
            "A search takes at least 2 opinions, keeps 1 to all of them, and rewrites at least 1"
            " question a pull; got others."
        )
    if (
        config.questions < 2
        or config.fresh < 2
        or not 1 <= config.answer <= config.fresh
        or config.n_seeds < 0
    ):
        raise BadInput(
            "A report takes at least 2 questions and 2 fresh opinions, of which 1 to all make one"
            " answer; got others."
        )
    if config.temperature <= 0 or config.strength <= 0 or config.beta < 0:
        raise BadInput(
            "Opinions are sampled at a temperature above 0, members steered by a strength above 0,"
            " and beta is not negative; got others."
        )


def _model(name: str, sae_run: Run | None) -> str:
    """Address of a member's model."""
    if population.is_address(name):
        return name.removeprefix("local:")
    return sae_run.config["model"] if sae_run else ""


def _judge(study: Workspace, config: AdaemSettings, own: bool) -> Judge | None:
    if not config.judge and not own:
        raise BadInput(
            "Nobody was told to read which values an opinion holds. Name a language model with"
            " --judge."
        )
    return (
        open_judge(config.judge, study.model, study.folder / "answers.jsonl")
        if config.judge
        else None
    )


def _rewriter(study: Workspace, config: AdaemSettings, own: bool) -> rewriting.Rewriter:
    if not config.llm and not own:
        raise BadInput("Nobody was told to rewrite questions. Name a language model with --llm.")
    if not config.llm:
        return rewriting.Composed()
    return rewriting.Asked(
        CachedLLM(open_llm(config.llm, study.model), study.folder / "answers.jsonl"),
        config.llm_temperature,
        config.llm_tokens,
    )


def _seeds(study: Workspace, config: AdaemSettings, own: bool) -> list[str]:
    from workbench.causal import targets

    if config.seeds:
        known = material.sample(material.lines(config.seeds), config.n_seeds, config.seed)
    elif own:
        known = organism.situations(config.n_seeds or 20, config.seed)
    else:
        known = material.sample(
            [one.text for one in targets.questions("", study.system)], config.n_seeds, config.seed
        )
    found = [text.strip() for text in known if text.strip()]
    if len(found) < 2 or len(set(found)) < len(found):
        raise BadInput(
            f"A search needs at least two different seed questions, got {len(found)},"
            f" {len(set(found))} of them different. Correct --seeds."
        )
    return found


def _sets(found: Found, config: AdaemSettings) -> dict[str, list[int]]:
    """Numbers of the questions that the report asks anew."""
    seeds = list(range(sum(one.pull < 0 for one in found.tried)))
    best = found.ranked(found.best)[: config.questions]
    if len(best) < 2:
        raise BadInput(
            f"{len(best)} topics have a question to which every member gave an opinion that could"
            " be read. Give other seeds, or a longer --new-tokens."
        )
    drawn = np.random.default_rng((config.seed, 12)).permutation(seeds)[: 2 * config.questions]
    return {
        "found": best,
        "seed": sorted(map(int, drawn)),
        "best-seed": found.ranked(seeds)[: len(best)],
    }


def _fresh(
    work: Work,
    asker: Asker,
    found: Found,
    numbers: Sequence[int],
    config: AdaemSettings,
    progress: Progress,
) -> dict[int, Read]:
    """Number -> the question asked anew, `ANEW` questions a part."""
    done, size, values, found_anew = (
        work.done("fresh"),
        len(asker.population.members),
        asker.system.ids,
        {},
    )
    for start in range(0, len(numbers), ANEW):
        some = numbers[start : start + ANEW]
        if start not in done:
            seed = config.seed * SEED + SEED // 2 + start * size * config.fresh
            read = asker.ask([found.tried[number].read.text for number in some], config.fresh, seed)
            work.part(
                "fresh",
                start,
                pa.Table.from_pylist(
                    [row for one in read for row in asking.rows(one, values)], schema=PART
                ),
            )
        found_anew |= dict(
            zip(some, asking.from_rows(work.kept("fresh", start).to_pylist(), values), strict=True)
        )
        progress("asking anew", start + len(some), len(numbers))
    return found_anew


def _report(
    work: Work,
    asker: Asker,
    found: Found,
    sets: dict[str, list[int]],
    fresh: dict[int, Read],
    config: AdaemSettings,
) -> dict[str, Any]:
    """Writes every table; gives the run's figures."""
    members, size = (
        [member.name for member in asker.population.members],
        len(asker.population.members),
    )
    held = {number: read.by_member(size) for number, read in fresh.items()}
    apart = {number: report.separation(one) for number, one in held.items()}
    dealt = {number: report.chance(one, config.seed + number) for number, one in held.items()}
    by_set = [
        {name: np.array([of(n) for n in numbers]) for name, numbers in sets.items()}
        for of in (apart.__getitem__, dealt.__getitem__, lambda n: found.tried[n].score.separation)
    ]
    separation = report.rows(by_set[0], by_set[1], by_set[2], config.replicates, config.seed)
    rated = ratings.rate(
        np.stack([held[n] for n in sets["found"]]),
        config.answer,
        members,
        asker.system.ids,
        config.replicates,
        config.seed,
    )
    name, accepted = asker.classifier.name, {one.accepted for one in found.pulls}
    work.table(
        "adaem_members",
        [
            {
                "member": m.name,
                "kind": m.kind,
                "respondent": r.name,
                "steering": m.steering.name,
                "persona": m.persona,
            }
            for m, r in zip(asker.population.members, asker.population.respondents, strict=True)
        ],
    )
    work.table(
        "adaem_questions",
        [
            {
                "question": one.number,
                "topic": one.topic,
                "parent": one.parent,
                "pull": one.pull,
                "text": one.read.text,
                "writer": one.writer,
                "score": one.score.total,
                "separation": one.score.separation,
                "distance": one.score.distance,
                "accepted": one.number in accepted,
                "found": one.number in sets["found"],
                "fresh": apart.get(one.number),
                "chance": dealt.get(one.number),
                "classifier": name,
            }
            for one in found.tried
        ],
        sort=("question",),
    )
    work.table(
        "adaem_opinions",
        [*_opinions(found, asker, members), *_fresh_opinions(fresh, asker, members)],
        sort=("stage", "question", "member"),
    )
    work.table(
        "adaem_pulls",
        [
            {
                "pull": k,
                **dataclasses.asdict(one.pull),
                "reward": one.reward,
                "tried": one.tried,
                "accepted": one.accepted,
            }
            for k, one in enumerate(found.pulls)
        ],
        sort=("pull",),
    )
    work.table("adaem_separation", separation)
    work.table(
        "adaem_ratings", [row | {"classifier": name} for row in rated], sort=("value", "member")
    )
    first = separation[0]
    every = [
        one for read in [*(t.read for t in found.tried), *fresh.values()] for one in read.opinions
    ]
    figures = {
        key: first[key]
        for key in (
            "separation",
            "chance",
            "ratio",
            "ratio_low",
            "ratio_high",
            "beyond",
            "beyond_low",
            "beyond_high",
        )
    }
    return {key: None if x != x else float(x) for key, x in figures.items()} | {
        "seed_separation": float(separation[1]["separation"]),
        "accepted": sum(one.accepted >= 0 for one in found.pulls),
        "pulls_without_questions": sum(not one.tried for one in found.pulls),
        "opinions": len(every),
        "missing": sum(one.status != "parsed" for one in every),
    }


def _opinions(found: Found, asker: Asker, members: Sequence[str]) -> list[dict[str, Any]]:
    return [
        row
        | dict(
            zip(
                ("conformity", "coherence", "value_difference", "semantic_difference"),
                map(float, four),
                strict=True,
            )
        )
        | {"kept": bool(kept)}
        for one in found.tried
        for row, four, kept in zip(
            _rows(one.read, "search", one.number, asker, members),
            one.criteria,
            one.kept,
            strict=True,
        )
    ]


def _fresh_opinions(
    fresh: dict[int, Read], asker: Asker, members: Sequence[str]
) -> list[dict[str, Any]]:
    return [
        row
        | {
            "conformity": None,
            "value_difference": None,
            "semantic_difference": None,
            "kept": None,
        }
        for number, read in fresh.items()
        for row in _rows(read, "fresh", number, asker, members)
    ]


def _rows(
    read: Read, stage: str, number: int, asker: Asker, members: Sequence[str]
) -> list[dict[str, Any]]:
    told = asking.rows(read, asker.system.ids)
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
            "classifier": asker.classifier.name,
            "coherence_by": asker.coherence.name,
        }
        for row in told
    ]


def _agreement(judge: Judge, found: Found, study: Workspace) -> dict[str, Any]:
    """How far the judge says the same when its options are turned round; warns where that is
    little.
    """
    texts = [
        one.text for tried in found.tried for one in tried.read.opinions if one.status == "parsed"
    ]
    values = study.system.values
    asked = [
        question(values[k % len(values)], text)
        for k, text in enumerate(texts[:: max(len(texts) // AGREED, 1)])
    ]
    agreed = self_agreement(judge, asked, HELD)
    return {
        "judge_agreement": agreed.share,
        "judge_kappa": None if agreed.kappa != agreed.kappa else agreed.kappa,
    }


def _items(
    study: Workspace,
    found: Found,
    fresh: dict[int, Read],
    numbers: Sequence[int],
    asker: Asker,
    id: str,
) -> dict[str, Any]:
    """The new instrument as its file holds it."""
    size = len(asker.population.members)
    return {
        "format": 1,
        "system": study.system.id,
        "run": id,
        "population": [member.name for member in asker.population.members],
        "classifier": asker.classifier.name,
        "questions": [
            {
                "id": f"q{n:04d}",
                "topic": found.tried[n].topic,
                "text": found.tried[n].read.text,
                "writer": found.tried[n].writer,
                "separation": round(report.separation(fresh[n].by_member(size)), 6),
            }
            for n in numbers
        ],
    }
