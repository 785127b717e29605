"""AdAEM on the organism: steered variants, the run's tables and its instrument, resumption, and
priming."""

import json

import numpy as np
import pytest

from feature_store.errors import BadInput, NotFound
from feature_store.records import Steering
from tests.helpers.endpoints import serve
from workbench import organism
from workbench.measuring.respondents import LocalRespondent
from workbench.study import Study
from workbench.systems.adaem import asking, population
from workbench.systems.adaem.asking import Asker
from workbench.systems.adaem.classifiers import PlantedClassifier
from workbench.systems.adaem.divergence import gjs

SMALL = {
    "budget": 2,
    "n_seeds": 3,
    "questions": 2,
    "rewrites": 2,
    "opinions": 4,
    "kept": 3,
    "fresh": 6,
    "answer": 3,
    "replicates": 200,
    "new_tokens": 16,
}


@pytest.fixture(scope="module")
def steered(probed_study):
    probes = probed_study.runs.latest("probes").id
    return [f"{probes}/power/difference-of-means+", f"{probes}/benevolence/difference-of-means+"]


@pytest.fixture(scope="module")
def made(probed_study, steered):
    """An adaem run that was interrupted midway and resumed."""

    def stop(stage, done, total):
        if (stage, done) == ("searching", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probed_study.adaem(progress=stop, population=[*steered, "base"], **SMALL)
    return probed_study.adaem(population=[*steered, "base"], **SMALL)


def test_every_step_is_kept_and_named(probed_study, made):
    sql = probed_study.store.sql
    questions, opinions = (
        sql("SELECT * FROM adaem_questions WHERE run = ?", [made.id]),
        sql("SELECT * FROM adaem_opinions WHERE run = ?", [made.id]),
    )
    assert len(questions) == made.summary["questions"] <= 3 + 2 * 2
    assert (questions.pull < 0).sum() == 3
    assert set(opinions.classifier) == {"planted language of the organism"}
    assert all(name.startswith("probability per token") for name in opinions.coherence_by)
    assert len(opinions[opinions.stage == "search"]) == len(questions) * 3 * 4
    fresh = opinions[opinions.stage == "fresh"]
    assert len(fresh) == questions.fresh.notna().sum() * 3 * 6
    assert not set(fresh.seed) & set(opinions[opinions.stage == "search"].seed), (
        "fresh opinions are drawn anew"
    )
    kept = opinions[(opinions.stage == "search") & opinions.kept.fillna(False).astype(bool)]
    assert kept.groupby(["question", "member"]).size().max() == 3
    assert len(sql("SELECT * FROM adaem_pulls WHERE run = ?", [made.id])) == 2
    members = sql("SELECT * FROM adaem_members WHERE run = ?", [made.id])
    assert set(members.kind) == {"steered", "base"}
    assert members.respondent.nunique() == 3
    ratings = sql("SELECT * FROM adaem_ratings WHERE run = ?", [made.id])
    assert len(ratings) == 3 * 10
    assert probed_study.adaem(population=made.config["population"], **SMALL).id == made.id


def test_the_report_can_be_made_again_from_the_opinions(probed_study, made):
    sql = probed_study.store.sql
    rows = sql(
        "SELECT question, member, status, held FROM adaem_opinions WHERE run = ? AND stage ="
        " 'fresh'",
        [made.id],
    )
    told = sql("SELECT question, fresh FROM adaem_questions WHERE run = ? AND found", [made.id])
    by_hand = []
    for question in told.question:
        p = []
        for _, own in rows[(rows.question == question) & (rows.status == "parsed")].groupby(
            "member"
        ):
            mass = np.zeros(11)
            for held in own.held:
                for value in held:
                    mass[probed_study.system.ids.index(value)] += 1 / len(held)
                mass[10] += len(held) == 0
            p.append(mass / len(own))
        by_hand.append(gjs(np.array(p)))
    assert told.fresh.tolist() == pytest.approx(by_hand)
    separation = sql("SELECT * FROM adaem_separation WHERE run = ?", [made.id]).set_index(
        "questions"
    )
    assert separation.separation["found"] == pytest.approx(np.mean(by_hand))
    assert separation.n["seed"] == 3
    assert np.isnan(separation.ratio["seed"])
    assert made.summary["separation"] == pytest.approx(separation.separation["found"])


def test_nothing_was_asked_twice(probed_study, made):
    lines = [
        json.loads(line)
        for line in (probed_study.folder / "answers.jsonl").read_text().splitlines()
    ]
    keys = [line["key"] for line in lines]
    assert len(keys) == len(set(keys))


def test_what_was_found_is_an_instrument(probed_study, made):
    folder = probed_study.runs.folder / made.id
    told = json.loads((folder / "items.json").read_text())
    assert len(told["questions"]) == 2
    with serve(
        lambda body, _: "yes" if "Power" in body["messages"][-1]["content"] else "no"
    ) as judge:
        run = probed_study.measure(
            instrument="adaem",
            settings=[f"items={folder}"],
            mode="generate",
            contexts="none",
            temperature=1.0,
            repeats=2,
            judge=f"{judge.url}#tiny-1",
            new_tokens=12,
            replicates=200,
            features=["1"],
            strength=0.3,
        )
    profile = probed_study.store.sql(
        "SELECT * FROM profiles WHERE run = ? AND NOT centred", [run.id]
    )
    assert set(profile.steering) == {"base", "add f1 @0.3 norm_share"}
    assert profile.groupby("value")["mean"].mean().to_dict() == {
        value: float(value == "power") for value in probed_study.system.ids
    }
    responses = probed_study.store.sql("SELECT * FROM responses WHERE run = ?", [run.id])
    assert len(responses) == 2 * 2 * 2 * 10


def test_wrong_settings_are_refused_in_one_line(probed_study, steered, monkeypatch):
    for error, what, settings in (
        (BadInput, "two different members", {}),
        (BadInput, "--judge", {"population": ["http://127.0.0.1:9/v1#a", "base"]}),
        (
            BadInput,
            "--llm",
            {"population": ["http://127.0.0.1:9/v1#a", "base"], "judge": "organism"},
        ),
        (NotFound, "labels", {"population": ["power+", "base"]}),
        (NotFound, "powr", {"population": ["primed:powr", "base"]}),
        (BadInput, "kept|keeps", {"population": ["base", *steered], "kept": 99}),
        (BadInput, "2 questions", {"population": ["base", *steered], "questions": 1}),
        (BadInput, "above 0", {"population": ["base", *steered], "temperature": 0.0}),
    ):
        with pytest.raises(error, match=what) as caught:
            probed_study.adaem(**settings)
        assert "\n" not in str(caught.value)


def test_seeds_of_a_file(probed_study, steered, tmp_path):
    file = tmp_path / "seeds.txt"
    file.write_text("It was market day.\n\nIt was market day.\n")
    with pytest.raises(BadInput, match="different seed questions"):
        probed_study.adaem(population=["base", *steered], seeds=str(file), **SMALL)


def test_priming_raises_the_target_and_lowers_its_opposite(tmp_path):
    """A context that states a value, over all ten values; the opposite is the value across
    Schwartz's circle.
    """
    study = Study(tmp_path / "study")
    system, model = study.system, study.model("organism")
    told = ("base", *(f"primed:{value}" for value in system.ids))
    making = population.MemberSettings(
        per_value=8, template=Steering(strength=0.4), is_organism=True, seed=0
    )
    members = tuple(population.plan(told, study, None, making))
    who = population.Population(
        members=members,
        respondents=(LocalRespondent(model, study.folder),) * len(members),
        model=model,
        is_organism=True,
    )
    texts = [f"{text} Now and then" for text in organism.situations(4, 1)]
    asker = Asker(
        population=who,
        classifier=PlantedClassifier(system),
        coherence=asking.by_model(model),
        system=system,
        temperature=1.0,
        new_tokens=16,
    )
    held = np.stack(
        [read.by_member(len(told)) for read in asker.ask(texts, 10, 0)]
    )  # question, member, opinion, value
    share = np.nanmean(held, (0, 2))
    angles, places = np.array([value.angle for value in system.values]), np.arange(len(system.ids))
    opposite = [int(np.cos(angles - angle).argmin()) for angle in angles]
    assert (share[1 + places, places] > share[0]).all(), (
        "every value is held more often by the one who was told of it"
    )
    assert (share[1 + places, places] - share[0]).mean() > 0.2
    assert share[1 + places, opposite].mean() < 0.7 * share[0, opposite].mean()


@pytest.mark.filterwarnings("ignore:.*agrees with itself:UserWarning")
def test_models_that_only_talk_are_told_apart_by_a_rewriter_and_a_judge(tmp_path):
    """One address plays a member, the rewriter and the judge; the other member runs here."""

    def reply(body, _):
        told = body["messages"][-1]["content"]
        if "Rewrite the question" in told:
            return "1. Who should lead the town?\n2. Who should follow?"
        if "Choose one of these answers" in told:
            return (
                "fully"
                if "Is the reply about" in told
                else "yes"
                if "Power" in told and "I lead." in told
                else "no"
            )
        return "I lead."

    seeds, study = tmp_path / "seeds.txt", Study(tmp_path / "study")
    seeds.write_text("A town has no mayor.\nA road is closed.\n")
    with serve(reply) as server:
        address = f"{server.url}#tiny-1"
        settings = {"population": [address, "organism"], "seeds": str(seeds), "judge": address}
        with pytest.raises(BadInput, match="--llm"):
            study.adaem(**settings, **SMALL)
        run = study.adaem(
            **settings,
            llm=address,
            **SMALL | {"budget": 1, "opinions": 2, "kept": 2, "fresh": 2, "answer": 1},
        )
    rows = study.store.sql(
        "SELECT member, value, share, classifier FROM adaem_ratings WHERE run = ? AND value ="
        " 'power'",
        [run.id],
    ).set_index("member")
    assert rows.share.to_dict() == {address: 1.0, "organism": 0.0}
    assert set(rows.classifier) == {address}
    written = study.store.sql(
        "SELECT text, writer FROM adaem_questions WHERE run = ? AND pull = 0", [run.id]
    )
    assert set(written.text) == {"Who should lead the town?", "Who should follow?"}
    assert set(written.writer) == {address}
    assert run.summary["judge_agreement"] == 1
