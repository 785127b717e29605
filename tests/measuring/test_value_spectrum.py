"""Value-Spectrum: a respondent whose tastes are planted, the ISQ worked out by hand, and the
whole path with models built here."""

import dataclasses
import math
import shutil

import numpy as np
import pytest

from feature_store.errors import BadInput, NotFound, WorkbenchError
from feature_store.records import Response
from tests.helpers import small_vision
from tests.helpers.endpoints import serve
from workbench.command.cli import main
from workbench.instruments.value_spectrum import wilson
from workbench.llm.local import LocalLLM
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.questionnaire import one_scale, open_instrument
from workbench.measuring.questions import questions
from workbench.measuring.respondents import RemoteRespondent
from workbench.measuring.seeing import VisionRespondent
from workbench.study import Study
from workbench.vision.personas import DECIDED, RATED, goes_on, isq_score, simple_persona


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with an index of 64 drawings; 8 images a colour, two colours a value."""
    home = tmp_path_factory.mktemp("spectrum")
    small_vision.drawings(home / "drawings")
    study = Study(home / "study")
    study.index(
        str(home / "drawings"), embedder="colour", keywords=small_vision.words(home / "words.toml")
    )
    return study


def opened(study, *settings):
    return open_instrument("value-spectrum", settings, study.system, study.folder)


@dataclasses.dataclass
class Taste:
    """Answers what `say` gives for the image's file and the item."""

    say: object
    name: str = "taste"

    def fits(self, asked, room):
        return [True] * len(asked)

    def score(self, asked, length, progress):
        return [
            tuple(-0.1 if answer == self.say(q) else -5.0 for answer in q.answers) for q in asked
        ]

    def answer(self, asked, new_tokens, temperature, progress):
        return [self.say(q) for q in asked]


def likes(*colours):
    return lambda q: "yes" if any(f"-{c}." in q.item.image for c in colours) else "no"


def measured(study, say, *settings, mode="logprob"):
    ready = opened(study, *settings)
    asked = questions(ready.instrument, [""], ("plain",))
    told = administer(
        Taste(say),
        ready.instrument,
        asked,
        "base",
        lambda *_: None,
        elicitation=Elicitation(mode=mode),
    )
    return {
        (row.value, row.centred): row
        for row in ready.plugin.score(told, ready.instrument, study.system, 200, 0)
    }, told


def test_who_likes_only_power_scores_100_and_0(made):
    rows, _ = measured(made, likes(*small_vision.COLOURS["power"]), "ask=like")
    assert {value: rows[value, False].mean for value in small_vision.COLOURS} == {
        "power": 100,
        "benevolence": 0,
        "security": 0,
        "stimulation": 0,
    }
    power, security = rows["power", False], rows["security", False]
    assert (power.n, power.parsed, power.missing) == (10, 10, 0), "two keywords of five images"
    assert power.high == pytest.approx(100)
    assert power.low == pytest.approx(100 * 10 / (10 + 1.959964**2)), (
        "ten yeses of ten do not make a certainty"
    )
    assert (security.low, security.high) == (0, pytest.approx(100 - power.low))
    assert rows["power", True].mean == pytest.approx(75)
    assert rows["security", True].mean == pytest.approx(-25)


def test_the_turned_question_takes_a_habit_out(made):
    always, _ = measured(made, lambda q: "yes", "ask=like+dislike", mode="generate")
    assert {row.mean for (_, centred), row in always.items() if not centred} == {50}
    half = likes("gold")
    rows, _ = measured(
        made,
        lambda q: half(q) if q.item.id.endswith("/like") else {"yes": "no", "no": "yes"}[half(q)],
        "ask=like+dislike",
    )
    assert rows["power", False].mean == 50
    assert rows["power", False].n == 10
    assert rows["power", False].parsed == 20


def test_refusals_are_counted_and_enter_no_mean(made):
    def say(q):
        return (
            "I cannot answer that."
            if "gold" in q.item.image
            else "Hmm"
            if "pink" in q.item.image
            else "Yes, I do."
        )

    rows, told = measured(made, say, "ask=like", mode="generate")
    assert (rows["power", False].n, rows["power", False].mean, rows["power", False].missing) == (
        5,
        100,
        5,
    )
    assert {r.status for r in told} == {"parsed", "refused", "unparsed"}
    nothing, _ = measured(made, lambda q: "Hmm", "ask=like", mode="generate")
    assert math.isnan(nothing["power", False].mean)
    assert nothing["power", False].n == 0


def test_why_is_told_the_answer_and_free_answers_are_written_in_any_mode(made):
    rows, told = measured(
        made, lambda q: "yes" if q.answers else f"about {q.item.id} after {len(q.history)}"
    )
    parts = {r.item.partition("/")[2]: r for r in told}
    assert parts["why"].text.endswith("after 2"), "the question and its answer"
    assert parts["describe"].text.endswith("after 0")
    assert parts["like"].logprobs
    assert not parts["why"].logprobs
    assert rows["power", False].parsed == 10, "what is free enters no mean"


def test_an_image_of_two_values_is_asked_once_and_counts_for_both(made, tmp_path):
    (tmp_path / "words.toml").write_text(
        '[power]\nkeywords = ["gold"]\n[security]\nkeywords = ["gold", "navy"]\n'
    )
    study = Study(tmp_path / "study")
    study.index(
        made.runs.latest("images").config["folder"],
        embedder="colour",
        keywords=str(tmp_path / "words.toml"),
    )
    ready = opened(study, "ask=like", "k=4")
    assert len(ready.instrument.items) == 8
    rows, _ = measured(study, likes("gold"), "ask=like", "k=4")
    assert (rows["power", False].mean, rows["power", False].n) == (100, 4)
    assert (rows["security", False].mean, rows["security", False].n) == (50, 8)


FULL = dict.fromkeys(RATED, 10) | dict.fromkeys(DECIDED, 1)


def test_the_documented_score_is_100():
    assert isq_score(FULL) == 100
    assert isq_score(dict.fromkeys(RATED, 1) | dict.fromkeys(DECIDED, 0)) == pytest.approx(
        100 * 4 / 60
    )
    assert goes_on(isq_score(dict.fromkeys(RATED, 4) | dict.fromkeys(DECIDED, 1))), (
        "16 + 20 of 60 are 60 %"
    )
    assert not goes_on(
        isq_score(FULL | {"attraction": 1, "curiosity": 1, "emotion": 3, "action": 0})
    )
    for spoiled in (
        FULL | {"curiosity": 11},
        FULL | {"action": 2},
        FULL | {"emotion": 0},
        {"curiosity": 3},
    ):
        with pytest.raises(BadInput):
            isq_score(spoiled)


def test_the_isq_decides_image_by_image(made):
    """Gold gets 4 4 4 4 yes yes (60 %), purple 10 10 10 10 yes no (83 %), navy 3 4 4 4 yes yes
    (58 %), gray no reading of one part.
    """

    def say(q):
        part, image = q.item.id.partition("/")[2], q.item.image
        if "gray" in image and part == "emotion":
            return "I cannot say."
        if part == "action":
            return "no" if "purple" in image else "yes"
        if part == "preference":
            return "yes"
        return (
            "10" if "purple" in image else "3" if "navy" in image and part == "attraction" else "4"
        )

    rows, _ = measured(made, say, "ask=isq", mode="generate")
    assert (rows["power", False].mean, rows["power", False].n) == (100, 10)
    assert (
        rows["security", False].mean,
        rows["security", False].n,
        rows["security", False].missing,
    ) == (0, 5, 5)
    scored, _ = measured(
        made, lambda q: say(q) if "gray" not in q.item.image else q.answers[0], "ask=isq"
    )
    assert scored["power", False].mean == 100


def test_wilson_is_the_interval_of_scipy():
    from scipy import stats

    for k, n in ((0, 7), (3, 10), (10, 10)):
        told = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(np.repeat([1.0, 0.0], [k, n - k])) == pytest.approx(
            (k / n, told.low, told.high), abs=1e-6
        )
    assert all(math.isnan(x) for x in wilson(np.array([])))


def test_a_persona_is_told(made):
    assert (
        simple_persona(["I hike.", " "])
        == "You are a person of whom this is true: I hike. Answer every question as this person"
        " would."
    )
    with pytest.raises(BadInput, match="at least one trait"):
        simple_persona([" "])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("ask=love",), "got 'love'"),
        (("ask=isq+like",), "asked alone"),
        (("ask=why",), "why follows like"),
        (("ask=describe",), "Add like"),
        (("arm=text", "ask=like+describe"), "Leave describe out"),
        (("k=0",), "at least 1"),
        (("index=images-0",), "no finished run"),
        (("arm=text",), "No run has described"),
        (("arm=text", "captions=none.csv"), "no file of descriptions"),
    ],
)
def test_settings_that_cannot_be_are_refused(made, settings, told):
    with pytest.raises(WorkbenchError, match=told) as caught:
        opened(made, *settings)
    assert "\n" not in str(caught.value)


def test_without_an_index_or_a_study_it_says_what_to_do(made, tmp_path):
    with pytest.raises(NotFound, match="workbench index"):
        opened(Study(tmp_path / "empty"))
    with pytest.raises(BadInput, match="a study has indexed"):
        one_scale("value-spectrum", made.system)


def test_images_that_changed_or_went_are_not_asked_about(made, tmp_path):
    shutil.copytree(made.runs.latest("images").config["folder"], tmp_path / "drawings")
    words = tmp_path / "words.toml"
    words.write_text('[power]\nkeywords = ["gold"]\n')
    study = Study(tmp_path / "study")
    study.index(str(tmp_path / "drawings"), embedder="colour", keywords=str(words))
    shutil.copy(tmp_path / "drawings" / "00-gray.png", tmp_path / "drawings" / "00-gold.png")
    with pytest.raises(BadInput, match=r"00-gold\.png has changed"):
        opened(study, "k=8")
    (tmp_path / "drawings" / "00-gold.png").unlink()
    with pytest.raises(NotFound, match="is gone"):
        opened(study, "k=8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,text\na,b\n", "needs a file and a description"),
        ("file,description\na.png,\n", "line 2"),
        ("file,description\na.png,x\na.png,y\n", "twice"),
        ("file,description\nother.png,x\n", "describes none"),
        ("file,description\na.png,caf\xe9\n", "UTF-8"),
    ],
)
def test_descriptions_that_cannot_be_used_are_refused(made, tmp_path, text, told):
    (tmp_path / "told.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=told):
        opened(made, "arm=text", f"captions={tmp_path / 'told.csv'}")


def test_the_text_arm_asks_about_descriptions(made, tmp_path):
    (tmp_path / "told.csv").write_text(
        "file,description\n"
        + "".join(
            f'0{n}-{c}.png,"A {c} thing, number {n}"\n' for n in range(8) for c in ("gold", "navy")
        )
    )
    with pytest.warns(UserWarning, match="images have no description"):
        ready = opened(made, "arm=text", "ask=like", "k=8", f"captions={tmp_path / 'told.csv'}")
    assert len(ready.instrument.items) == 16
    assert not any(item.image for item in ready.instrument.items)
    told = administer(
        Taste(lambda q: "yes" if "gold thing" in q.prompt else "no"),
        ready.instrument,
        questions(ready.instrument, [""], ("plain",)),
        "base",
        lambda *_: None,
    )
    rows = {
        (row.value, row.centred): row.mean
        for row in ready.plugin.score(told, ready.instrument, made.system, 200, 0)
    }
    assert (rows["power", False], rows["security", False]) == (100, 0)
    with pytest.warns(UserWarning, match="images have no description"):
        run = made.measure(
            model="organism",
            instrument="value-spectrum",
            settings=("arm=text", "ask=like", "k=8", f"captions={tmp_path / 'told.csv'}"),
        )
    assert run.summary["answers"] == 16, "a model without eyes answers what is told"


def measure(study, *words):
    assert main(["measure", str(study.folder), "--instrument", "value-spectrum", *words]) == 0
    return study.runs.latest("profile")


def test_the_whole_path_with_models_built_here(made, tmp_path, capsys):
    """Index by CLIP; a vision-language model likes, says why and describes; its descriptions
    alone; an SAE of its language side, steered; all again from disk.
    """
    clip, llava = small_vision.clip(tmp_path / "clip"), small_vision.llava(tmp_path / "llava")
    images, study = made.runs.latest("images").config["folder"], Study(tmp_path / "study")
    assert (
        main(
            [
                "index",
                str(study.folder),
                "--folder",
                images,
                "--options",
                f"model={clip}",
                "--keywords",
                small_vision.words(tmp_path / "words.toml"),
            ]
        )
        == 0
    )
    assert study.runs.latest("images").summary["embedded"] == 64
    run = measure(study, "--model", f"vision:{llava}", "--settings", "k=6", "--new-tokens", "6")
    told = study.store.sql("SELECT * FROM responses WHERE run = ?", [run.id])
    n = len({item.split("/")[0] for item in told["item"]})
    assert len(told) == 3 * n
    assert n > 4
    assert "too-long" not in set(told.status)
    rows = study.store.sql("SELECT * FROM profiles WHERE run = ? AND NOT centred", [run.id])
    assert set(rows.value) == set(small_vision.COLOURS)
    assert ((rows["mean"] >= rows.low) & (rows["mean"] <= rows.high) & (rows.n > 0)).all()

    text = measure(study, "--model", f"vision:{llava}", "--settings", "k=6,arm=text,ask=like")
    assert text.summary["answers"] <= n
    assert text.inputs["items"] != run.inputs["items"]

    (tmp_path / "texts.txt").write_text(
        "\n".join(
            f"the cat {word} on the mat and the dog ran to the end of the garden"
            for word in ("sat", "ran", "slept", "ate") * 12
        )
    )
    trained = study.train(
        model=f"vision:{llava}",
        texts=str(tmp_path / "texts.txt"),
        layer=2,
        n_features=64,
        k=8,
        tokens=4096,
        batch_tokens=256,
        context=32,
    )
    feature = study.store.sql(
        "SELECT feature FROM features WHERE run = ? ORDER BY n_active DESC", [trained.id]
    ).feature[0]
    steered = measure(
        study, "--settings", "k=6,ask=like", "--features", str(feature), "--strength", "4"
    )
    both = study.store.sql(
        "SELECT steering, item, logprobs FROM responses WHERE run = ?", [steered.id]
    )
    assert both.steering.nunique() == 2
    by = {
        steering: dict(zip(part["item"], part.logprobs, strict=True))
        for steering, part in both.groupby("steering")
    }
    base = by.pop("base")
    assert (
        max(abs(base[item] - logprobs).max() for item, logprobs in next(iter(by.values())).items())
        > 0.01
    )
    made_of = study.contrast(
        subjects=("base", f"f{feature}@4"),
        instruments=("value-spectrum",),
        settings=("value-spectrum.k=6", "value-spectrum.ask=like"),
    )
    assert (
        study.store.sql(
            "SELECT profile FROM subjects WHERE run = ? AND subject <> 'base'", [made_of.id]
        ).profile[0]
        == steered.id
    )
    assert len(
        study.store.sql("SELECT * FROM contrasts WHERE run = ? AND n > 0", [made_of.id])
    ) == len(small_vision.COLOURS)
    plain = dict(zip(told["item"], told.logprobs, strict=True))
    assert all((base[item] == plain[item]).all() for item in base), (
        "hooks leave no trace, and what was asked is not asked again"
    )
    capsys.readouterr()


def test_nothing_is_asked_twice_and_another_picture_is_another_question(
    made, tmp_path, monkeypatch
):
    from sae_training.engine.opening import open_model
    from sae_training.engine.vision import VisionModel

    model = open_model(f"vision:{small_vision.llava(tmp_path / 'llava')}", device="cpu")
    ready = opened(made, "k=1")
    asked = questions(ready.instrument, [""], ("plain",))
    told = administer(
        VisionRespondent(model, tmp_path),
        ready.instrument,
        asked,
        "base",
        lambda *_: None,
        elicitation=Elicitation(new_tokens=4),
    )
    with monkeypatch.context() as patch:
        patch.setattr(VisionModel, "score_shown", lambda *_: pytest.fail("asked again"))
        patch.setattr(VisionModel, "generate_shown", lambda *_: pytest.fail("asked again"))
        again = administer(
            VisionRespondent(model, tmp_path),
            ready.instrument,
            asked,
            "base",
            lambda *_: None,
            elicitation=Elicitation(new_tokens=4),
        )
    assert list(map(repr, again)) == list(map(repr, told))
    (tmp_path / "other.png").write_bytes((tmp_path / "llava" / "config.json").read_bytes())
    other = dataclasses.replace(
        asked[0], item=dataclasses.replace(asked[0].item, image=str(tmp_path / "other.png"))
    )
    with pytest.raises(BadInput, match="is no image"):
        VisionRespondent(model, tmp_path).score([other], "mean", lambda *_: None)
    model.context = 24
    short = administer(
        VisionRespondent(model, tmp_path / "x"),
        ready.instrument,
        asked[:1],
        "base",
        lambda *_: None,
    )
    assert [r.status for r in short] == ["too-long"]


def test_who_does_not_see_is_told_so(made):
    with pytest.raises(BadInput, match="does not see"):
        made.measure(model="organism", instrument="value-spectrum", settings=("k=1", "ask=like"))
    ready = opened(made, "k=1", "ask=like")
    asked = questions(ready.instrument, [""], ("plain",))
    with pytest.raises(BadInput, match="sees no images"):
        administer(
            RemoteRespondent(LocalLLM(made.model("organism")), made.folder),
            ready.instrument,
            asked[:1],
            "base",
            lambda *_: None,
            elicitation=Elicitation(mode="generate"),
        )


def test_an_endpoint_is_shown_the_image(made):
    def reply(body, number):
        part, text = body["messages"][-1]["content"]
        assert part["image_url"]["url"].startswith("data:image/png;base64,")
        return "Yes." if "Do you like" in text["text"] else "No."

    with serve(reply) as script:
        run = made.measure(
            model=f"{script.url}#tiny",
            instrument="value-spectrum",
            settings=("k=2", "ask=like"),
            mode="generate",
        )
        n = len(script.requests)
        rows = made.store.sql("SELECT mean FROM profiles WHERE run = ? AND NOT centred", [run.id])
        assert set(rows["mean"]) == {100}
        again = made.measure(
            model=f"{script.url}#tiny",
            instrument="value-spectrum",
            settings=("k=1", "ask=like"),
            mode="generate",
        )
        assert again.id != run.id
        assert len(script.requests) == n, "the images were asked about before"


def test_responses_that_were_stored_are_scored_again(made):
    """A pure function of the table's rows."""
    ready = opened(made, "ask=like")
    images = [item for item in ready.instrument.items if item.options]
    rows = [
        Response(
            item=item.id,
            value="",
            context=0,
            wording="plain",
            order="ascending",
            seed=seed,
            steering="base",
            text="",
            logprobs=(),
            rating=float("nan"),
            status="parsed",
            chosen=seed,
        )
        for item in images
        for seed in (0, 1)
    ]
    told = ready.plugin.score(rows, ready.instrument, made.system, 200, 0)
    assert {row.mean for row in told if not row.centred} == {50}
    assert all(row.n == 10 and row.parsed == 20 for row in told)
