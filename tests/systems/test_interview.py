"""Roles interviewed on a small model that writes, and the whole verb on the organism."""

import numpy as np
import pytest
import torch

from feature_store.errors import BadInput
from feature_store.progress import silent
from feature_store.records import Item, Site, Span, Steering, Value
from feature_store.runs import Runs
from tests.helpers.small_models import TinySAE, model
from workbench.instruments.standin import standin
from workbench.llm import Verdict
from workbench.steering.methods import StrengthScale, build_edit
from workbench.study import Study
from workbench.systems.kang import interview, roles
from workbench.systems.kang.interview import RoleInterview, SteeredModel, Treatment

VALUES = (
    Value(id="order", name="Order", angle=0.0, definition="Goal.", parent=""),
    Value(id="play", name="Play", angle=0.0, definition="Goal.", parent=""),
)
ITEMS = roles.split(
    [
        Item(id=f"{v.id}-{k}", text=f"cat {k}?", value=v.id, key=-1 if k == 1 else 1)
        for v in VALUES
        for k in range(4)
    ],
    VALUES,
    0.5,
    2,
    0,
)
SPAN = Span(roles.wordings()["prompts"]["span"])


@pytest.fixture
def short(monkeypatch):
    """The prompt of `roles.toml` is longer than the small model reads."""
    prompts = roles.wordings()["prompts"] | {
        "task": "{role}By your values: {question}\n",
        "held": "{value}!",
        "rejected": "no {value}!",
    }
    monkeypatch.setitem(roles.wordings(), "prompts", prompts)


def told(mode, count=5):
    people = [
        roles.Role(roles.NOBODY, "train", ""),
        *(roles.Role(n, "train" if n < count - 1 else "test", "") for n in range(count)),
    ]
    return RoleInterview(
        model="tiny",
        mode=mode,
        instrument=standin(),
        wording="plain",
        items=ITEMS,
        roles=people,
        sample=0.5,
        max_new_tokens=3,
        seed=0,
    )


def treatments():
    return [
        Treatment(
            "feature",
            f,
            Steering(features=((f, 1.0),), method="add", strength=30.0, unit="raw", positions=SPAN),
        )
        for f in (3, 8)
    ]


def steered_model(live):
    scale = StrengthScale(5.0, torch.ones(40))
    edit = build_edit([treatment.steering for treatment in treatments()], TinySAE(), scale)
    return SteeredModel(model=live, site=Site(1), edit=edit, treatments=treatments())


@pytest.mark.parametrize("mode", ["generate", "yes-no"])
def test_every_answer_is_kept_and_a_killed_run_goes_on(short, tmp_path, mode):
    told_ = told(mode)
    tiny = model("llama")

    def stop(stage, done, total):
        raise KeyboardInterrupt

    runs = Runs(tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt), runs.begin("kang", {}, {}, 0) as work:
        interview.measure(work, told_, steered_model(tiny), stop)
    asked = []
    tiny.tokenize, real = (
        lambda texts, prompt=False: asked.extend(texts) or real(texts, prompt),
        tiny.tokenize,
    )
    with runs.begin("kang", {}, {}, 0) as work:
        answers, prompts = interview.measure(work, told_, steered_model(tiny), silent)
    assert asked, "two roles were left"
    frame = answers.to_pandas()
    with Runs(tmp_path / "whole").begin("kang", {}, {}, 0) as work:
        whole, _ = interview.measure(work, told_, steered_model(model("llama")), silent)
    assert frame.equals(whole.to_pandas())  # NaN where NaN
    # 5 of 6 roles see one training item a value, the test role two: unsteered and under two
    # features; then held and rejected.
    assert len(frame) == (5 * 2 + 4) * 3 + 2 * 4
    assert set(frame.kind) == {"none", "feature", "held", "rejected"}
    assert len(prompts) == 5 * 2 + 4 + 8
    assert frame.score[frame.status != "parsed"].isna().all()
    assert frame.score[frame.status == "parsed"].between(-1, 1).all()
    if mode == "generate":
        assert (frame.status == "unparsed").any()  # a random model writes nonsense
    else:
        base, steered = (
            frame[(frame.kind == "feature") & (frame.feature == f)].score.to_numpy() for f in (3, 8)
        )
        assert not np.allclose(base, steered)


def test_scores_are_agreement_times_answer(short, tmp_path):
    class Always:
        name = "always"

        def judge(self, questions, options):
            return [
                Verdict(choice="yes", status="parsed", text="yes", judge=self.name)
                for _ in questions
            ]

    with Runs(tmp_path / "runs").begin("kang", {}, {}, 0) as work:
        answers, _ = interview.measure(
            work, told("generate"), steered_model(model("llama")), silent, Always()
        )
    frame = answers.to_pandas()
    judged = frame[frame.reader == "always"]
    assert len(judged) > 20
    assert (judged.score == judged.agreement).all()
    assert (judged.agreement == -1).any()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The organism with an SAE of little training: what is tested is the way, not the features."""
    made = Study(tmp_path_factory.mktemp("kang") / "study")
    made.train(tokens=200_000, n_features=256, documents=100)
    return made


def test_the_verb_on_the_organism(study):
    run = study.kang(
        roles=14, test_roles=8, top=5, random_directions=2, replicates=6, permutations=200
    )
    assert run.kind == "kang"
    assert (
        study.kang(
            roles=14, test_roles=8, top=5, random_directions=2, replicates=6, permutations=200
        ).id
        == run.id
    )
    assert run.summary["mode"] == "rating"
    assert run.summary["missing"] == 0
    assert run.summary["rows"] == 15 * 6
    assert len(run.summary["features"]) == 5
    store = study.store
    scores = store.sql("SELECT * FROM kang_scores")
    assert scores.score.between(-1, 1).all()
    assert (
        len(scores[scores.kind.isin(["none", "feature"]) & (scores.split == "train")])
        == 15 * 6 * 10
    )
    edges = store.sql("SELECT * FROM kang_edges")
    assert len(edges) == 90
    assert edges.frequency.between(0, 1).all()
    assert (edges.descends | ~edges.present).all()
    effects = store.sql("SELECT * FROM kang_side_effects")
    assert set(zip(effects.graph, effects.by, strict=True)) == {
        (g, b) for g in ("pc", "planted") for b in ("role", "feature", "random-direction")
    }
    assert (effects.clusters == 8).all()
    counts = store.sql("SELECT * FROM kang_counts")
    assert (counts[["train_up", "train_same", "train_down"]].sum(axis=1) == 14).all()
    assert (counts[["test_up", "test_same", "test_down"]].sum(axis=1) == 8).all()
    control = store.sql("SELECT * FROM kang_control")
    prompted = control[control.by == "prompt"]
    assert prompted[prompted.direction == 1].up.mean() > 0.7, (
        "a document that holds a value raises it on the organism"
    )
    assert prompted[prompted.direction == -1].down.mean() > 0.7
    assert len(control) == 2 * 3 * 10
    prompts = store.sql("SELECT DISTINCT wording FROM prompts WHERE run = ?", [run.id])
    assert set(prompts.wording) == {"rating", "held", "rejected"}
    assert store.sql("SELECT text FROM kang_roles WHERE role >= 0").text.str.len().min() > 0


def test_answers_without_a_graph_are_kept(study):
    run = study.kang(
        roles=2, test_roles=2, top=1, random_directions=0, replicates=2, permutations=100
    )
    assert "more than 13 complete rows, got 6" in run.summary["no_graph"]
    assert run.summary["answers"] == len(
        study.store.sql("SELECT * FROM kang_answers WHERE run = ?", [run.id])
    )
    effects = study.store.sql("SELECT * FROM kang_side_effects WHERE run = ?", [run.id])
    assert set(effects.graph) == {"planted"}
    assert len(study.store.sql("SELECT summary FROM runs WHERE run = ?", [run.id])) == 1


def test_what_cannot_be_asked_is_refused_before_anything_is_lost(study):
    with pytest.raises(BadInput, match="cannot say yes or no"):
        study.kang(mode="yes-no")
    with pytest.raises(BadInput, match="' your values' does not occur in prompt 1"):
        study.kang(span=" your values", roles=4, test_roles=2)
    with pytest.raises(BadInput, match="no rating options"):
        study.kang(items="items.csv")
