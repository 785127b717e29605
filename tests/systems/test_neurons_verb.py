"""`workbench neurons` from end to end on the organism: MLP neurons and SAE features, groups, a
judge, and going on after an interruption."""

import dataclasses

import numpy as np
import pytest

from feature_store.errors import BadInput, NotFound
from feature_store.records import Value
from workbench import organism
from workbench.command.cli import main
from workbench.llm import Verdict
from workbench.study import Study
from workbench.systems.value_locate.descriptions import (
    BUILT_IN,
    POLES,
    DescribedQuestion,
    descriptions,
)
from workbench.systems.value_locate.judging import samples_table, score, score_rows

pytestmark = pytest.mark.slow_file

SMALL = {
    "values": ("power", "security"),
    "n_answers": 40,
    "new_tokens": 16,
    "top": 120,
    "min_delta": 1.0,
    "gammas": (1.0,),
    "draws": 2,
    "n_contexts": 4,
    "n_neutral": 4,
    "replicates": 200,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """An SAE of the organism, trained for a moment."""
    made = Study(tmp_path_factory.mktemp("neurons") / "study")
    made.train(model="organism", documents=1500, tokens=120_000)
    return made


@pytest.fixture(scope="module")
def found(study):
    seen = {}
    run = study.neurons(
        lambda stage, done, total: seen.update({stage: (done, total)}), model="organism", **SMALL
    )
    return run, seen


def test_a_run_holds_neurons_answers_measurements_and_effects(study, found):
    run, seen = found
    assert run.kind == "neurons"
    assert set(seen) == {"answering", "locating", "editing", "analysing"}
    assert all(done == total for done, total in seen.values())

    def sql(query):
        return study.store.sql(query.replace("RUN", f"'{run.id}'"))

    neurons = sql("SELECT * FROM neurons WHERE run = RUN")
    assert (neurons.groupby(["value", "role"]).size() == 120).all()
    assert set(neurons.layer) <= set(range(4))
    assert np.allclose(neurons.delta, neurons.p_value - neurons.p_reversed)
    assert ((neurons.delta > 0) == (neurons.role == "target")).all()
    assert ((neurons.low < neurons.delta) & (neurons.delta < neurons.high)).mean() > 0.95
    assert (neurons.u[neurons.role == "target"] > 0).all()
    answers = sql("SELECT * FROM neuron_answers WHERE run = RUN")
    assert len(answers) == 2 * 2 * 40
    assert all(
        row.description in row.prompt and row.question in row.prompt for row in answers.itertuples()
    )
    tokens = answers[answers.value == "power"].groupby("pole").tokens.sum()
    assert set(neurons.tokens_value[neurons.value == "power"]) == {tokens["value"]}
    for question, own in answers.groupby(["value", "answer"]).question:
        assert own.nunique() == 1, f"{question}: both poles answer the same question"
    interventions = sql("SELECT * FROM interventions WHERE run = RUN")
    assert len(interventions) == 2 * (2 + 2)
    assert set(interventions.kind) == {"edited-neurons", "reversed-neurons", "random-neurons"}
    effects = sql("SELECT * FROM neuron_effects WHERE run = RUN")
    assert len(effects) == 10 + 2 * 3 * 10 + 3
    by_hand = sql(
        "SELECT i.value, i.kind, i.dose, avg(r.rating - r.base) AS change FROM ratings r JOIN"
        " interventions i USING (run, intervention) WHERE run = RUN AND r.value = i.value GROUP"
        " BY ALL"
    )
    for row in by_hand.itertuples():
        one = effects[
            (effects.value == row.value)
            & (effects.target == row.value)
            & (effects.condition == row.kind.split("-")[0])
            & (effects.gamma == row.dose)
        ]
        assert one.effect.item() == pytest.approx(row.change, abs=1e-4)
    assert effects.damage_n[effects.condition != "default"].eq(4).all()
    assert len(sql("SELECT * FROM neuron_samples WHERE run = RUN")) == 0


def test_the_planted_values_are_moved_by_their_neurons_and_not_by_others(study, found):
    run, _ = found
    own = study.store.sql(
        "SELECT * FROM neuron_effects WHERE run = ? AND value = 'all' AND gamma = 1", [run.id]
    ).set_index("condition")
    assert (
        own.excess["edited"] > 0.1 > 0 > own.excess_high["reversed"]
    )  # a handful of contexts: the sizes are the benchmark's business


def test_sae_features_carry_the_values_too(study):
    run = study.neurons(on="sae", **(SMALL | {"top": 15, "gammas": (0.5,), "draws": 1}))
    own = study.store.sql(
        "SELECT * FROM neuron_effects WHERE run = ? AND value = 'all'", [run.id]
    ).set_index("condition")
    assert own.low["edited"] > own.high["random"]
    assert own.high["reversed"] < own.low["random"]
    assert run.inputs["sae"] == study.runs.latest("sae").id
    assert study.store.sql(
        "SELECT DISTINCT layer FROM neurons WHERE run = ?", [run.id]
    ).layer.tolist() == [organism.truth().layer]


def test_asking_again_makes_nothing_new_and_the_model_is_as_before(study, found):
    run, _ = found
    before = study.runs.ids()
    assert study.neurons(model="organism", **SMALL) == run
    assert study.runs.ids() == before
    model = study.model("organism")
    assert not any(module._forward_hooks for module in model.module.modules())


def test_an_interrupted_run_goes_on_and_gives_the_same(study, found, tmp_path):
    run, _ = found
    other = Study(tmp_path / "other")
    calls = []

    def stop(stage, done, total):
        calls.append(stage)
        if stage == "editing" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        other.neurons(progress=stop, model="organism", **SMALL)
    kept = next((other.runs.folder / ".work").glob("*/state/ratings"))
    assert len(list(kept.glob("*.parquet"))) == 3
    times = {file.name: file.stat().st_mtime_ns for file in kept.glob("*.parquet")}
    model = other.model("organism")
    generated = []
    original = type(model).forward
    try:
        type(model).forward = lambda self, ids, mask, *args, **more: (
            generated.append(more.get("past_key_values"))
            or original(self, ids, mask, *args, **more)
        )
        again = other.neurons(
            lambda stage, done, total: [
                times[f.name] == f.stat().st_mtime_ns or pytest.fail(f.name)
                for f in kept.glob("00000[0-2].parquet")
            ],
            model="organism",
            **SMALL,
        )
    finally:
        type(model).forward = original
    assert not any(cache is not None for cache in generated), "no answer was written again"
    assert again.id == run.id
    query = "SELECT * FROM neuron_effects WHERE run = ? ORDER BY ALL"
    assert other.store.sql(query, [run.id]).equals(study.store.sql(query, [run.id]))


def test_the_four_higher_order_values_are_located_and_measured_as_groups(study):
    settings = SMALL | {
        "values": (),
        "n_answers": 6,
        "draws": 0,
        "u": "share",
        "dropout": 0.0,
        "n_contexts": 3,
    }
    run = study.neurons(model="organism", system="higher-order", **settings)
    effects = study.store.sql("SELECT * FROM neuron_effects WHERE run = ?", [run.id])
    four = {"openness-to-change", "self-enhancement", "conservation", "self-transcendence"}
    assert set(effects.target) == four | {"own"}
    assert set(effects.value) == four | {"", "all"}
    assert effects.excess.isna().all()
    neurons = study.store.sql("SELECT * FROM neurons WHERE run = ?", [run.id])
    assert np.allclose(neurons.u, neurons[["p_value", "p_reversed"]].max(axis=1))


@dataclasses.dataclass
class Scripted:
    """Judges by the words alone; refuses and mumbles now and then."""

    name: str = "scripted"
    asked: int = 0

    def judge(self, questions, options):
        verdicts = []
        for question in questions:
            self.asked += 1
            assert options == ("1", "2", "3", "4", "5")
            if self.asked % 7 == 0:
                verdicts.append(
                    Verdict(choice="", status="refused", text="I cannot say.", judge=self.name)
                )
            elif self.asked % 11 == 0:
                verdicts.append(
                    Verdict(choice="", status="unparsed", text="perhaps", judge=self.name)
                )
            else:
                choice = str(1 + question.count("i ") % 5)
                verdicts.append(
                    Verdict(choice=choice, status="parsed", text=choice, judge=self.name)
                )
        return verdicts


def test_a_judge_scores_samples_under_every_condition(study):
    judge = Scripted()
    run = study.neurons(
        model="organism", judge=judge, **(SMALL | {"values": ("power",), "draws": 1, "samples": 12})
    )
    assert run.inputs["judge"] == "scripted"
    samples = study.store.sql("SELECT * FROM neuron_samples WHERE run = ?", [run.id])
    assert judge.asked == len(samples) == 4 * 12
    assert samples.score.notna().equals(samples.status == "parsed")
    assert {"refused", "unparsed", "parsed"} == set(samples.status)
    scores = study.store.sql("SELECT * FROM neuron_scores WHERE run = ?", [run.id]).set_index(
        "condition"
    )
    assert set(scores.index) == {"default", "edited", "reversed", "random"}
    assert scores.missing.sum() == run.summary["not_judged"] == samples.score.isna().sum()
    edited, plain = (
        samples[samples.condition == c].sort_values("sample").score.to_numpy()
        for c in ("edited", "default")
    )
    assert scores["mean"]["edited"] == pytest.approx(np.nanmean(edited))
    assert scores.change["edited"] == pytest.approx(np.nanmean(edited - plain))
    assert scores.n["edited"] == np.isfinite(edited - plain).sum() < 12


def test_scores_pair_samples_of_the_same_question():
    value = Value(id="power", name="Power", angle=0.0, definition="control over others", parent="")
    told = [DescribedQuestion(f"q{k}", "", f"q{k}") for k in range(8)]

    class ByNumber:
        name = "n"

        def judge(self, questions, options):
            return [
                Verdict(choice=q.split("Answer: ")[1][0], status="parsed", text="", judge="n")
                for q in questions
            ]

    plain = score(ByNumber(), value, told, [str(1 + k % 4) for k in range(8)], "default", 0.0)
    raised = score(ByNumber(), value, told, [str(2 + k % 4) for k in range(8)], "edited", 1.0)
    rows = {row["condition"]: row for row in score_rows(samples_table([*raised, *plain]), 200, 0)}
    assert (
        rows["edited"]["change"],
        rows["edited"]["low"],
        rows["edited"]["high"],
        rows["edited"]["n"],
    ) == (1, 1, 1, 8)
    assert rows["default"]["change"] == 0


def test_built_in_descriptions_speak_of_every_value_and_pole(study):
    told = descriptions("", study.system, 0)
    assert set(told.persons) == {(value, pole) for value in study.system.ids for pole in POLES}
    assert all(
        6 <= len(texts) <= 8 and len(set(texts)) == len(texts) for texts in told.persons.values()
    )
    held, denied = (told.described("power", pole, 30, 1) for pole in POLES)
    assert [one.question for one in held] == [one.question for one in denied]
    assert all(one.description in told.persons["power", "value"] for one in held)
    assert len({one.description for one in held}) > 3
    assert (
        held == told.described("power", "value", 30, 1) != told.described("power", "value", 30, 2)
    )
    assert "Answer:" in held[0].prompt
    assert told.bare(2)[0].prompt.startswith("Question:")


def test_the_organism_is_told_in_its_own_words(study):
    told = descriptions("organism", study.system, 0)
    from workbench.organism.planted import planted_language

    plus = {
        text
        for facet, row in zip(planted_language().truth.facets, planted_language().rows)
        if facet.value == "power"
        for text in row.plus
    }
    for text in told.persons["power", "value"]:
        sentences = [sentence + "." for sentence in text.rstrip(".").split(". ")]
        assert len(sentences) == 2
        assert set(sentences) <= plus


def test_descriptions_come_from_a_file_and_a_bad_one_is_refused(study, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(
        'template = "{description} {question}"\nquestions = ["The bus came a little'
        ' late."]\n[values.power]\nvalue = ["I gave orders from the big desk."]\nreversed = ["I let'
        ' the crew run itself."]\n'
    )
    told = descriptions(str(file), study.system, 0)
    assert (
        told.described("power", "reversed", 1, 0)[0].prompt
        == "I let the crew run itself. The bus came a little late."
    )
    with pytest.raises(NotFound, match="no descriptions of security"):
        study.neurons(model="organism", descriptions=str(file), **SMALL)
    file.write_text(file.read_text().replace("[values.power]", "[values.powr]"))
    with pytest.raises(NotFound, match="powr"):
        descriptions(str(file), study.system, 0)
    file.write_text(BUILT_IN.read_text().replace("{question}", ""))
    with pytest.raises(BadInput, match="template"):
        descriptions(str(file), study.system, 0)
    with pytest.raises(NotFound, match="no file"):
        descriptions(str(tmp_path / "absent.toml"), study.system, 0)


def test_the_command_line_tells_mistakes_and_loses_nothing(study, capsys):
    before = study.runs.ids()
    flags = (
        ("organism", "--gammas", "1,0.5"),
        ("organism", "--values", "envy"),
        ("organism", "--n-answers", "1"),
        ("other", "--on", "sae"),
    )
    for words, told in zip(
        flags, ("rising", "envy", "2 answers", "belongs to organism"), strict=True
    ):
        assert main(["neurons", str(study.folder), "--model", *words]) == 2
        assert told in capsys.readouterr().err
    assert study.runs.ids() == before
    assert study.runs.unfinished() == []
