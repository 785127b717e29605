"""Every registered plug-in keeps its kind's contract: a new one arrives tested by being
registered."""

import dataclasses
import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from feature_store import registry
from feature_store.errors import BadInput, WorkbenchError
from feature_store.records import Instrument, Label, Steering, ValueSystem
from tests.helpers import small_models, small_vision
from tests.helpers.endpoints import ScriptedLLM
from workbench import verbs
from workbench.verb_table import VERBS


def every(kind):
    return pytest.mark.parametrize("name", registry.names(kind))


@pytest.mark.parametrize("kind", registry.PACKAGES)
def test_a_plug_in_says_what_it_is(kind):
    for name in registry.names(kind):
        place = registry.origin(kind, name)
        assert Path(place.file).exists()
        assert place.summary.endswith("."), f"{kind} {name}: the docstring's first line is cut"


@every("values")
def test_a_value_system(name):
    system = registry.get("values", name)
    assert isinstance(system, ValueSystem)
    assert system.id == name
    assert system.source
    assert len(set(system.ids)) == len(system.ids)
    for value in system.values:
        assert system.resolve(value.name) == value.id
        assert value.definition
        assert 0 <= value.angle < 2 * math.pi
    angles = [value.angle for value in system.values]
    assert angles == sorted(angles), "values stand in circle order"


@every("instruments")
def test_an_instrument(name, tmp_path):
    """Items, answers and wordings hold together, and whoever always answers the same way has a
    profile.
    """
    from tests.helpers.instruments import opened
    from workbench.measuring.administer import administer
    from workbench.measuring.questions import questions

    ready = opened(name, tmp_path)
    instrument, system = ready.instrument, registry.get("values", ready.instrument.system)
    assert isinstance(instrument, Instrument)
    assert instrument.id == name
    assert instrument.title
    assert instrument.source
    assert instrument.licence
    ids = [item.id for item in instrument.items]
    assert len(set(ids)) == len(ids) > 0
    for number, item in enumerate(instrument.items):
        assert not item.after or item.after in ids[:number], (
            "an item stands after the one it follows"
        )
        assert {value for option in item.options for value, _ in option.scores} | set(
            item.values
        ) <= set(system.ids)
        assert bool(item.options) == (instrument.answer == "choice")
    names = [wording for wording, _ in instrument.wordings]
    for own in (False, True):
        assert set(ready.plugin.wordings(instrument, own)) <= set(names)
    asked = questions(instrument, [""], ready.plugin.wordings(instrument, False))
    assert all(q.item.text in q.prompt for q in asked)
    if not ready.plugin.judged:
        asked = [
            q for q in asked if q.order == "ascending"
        ]  # over both orders, always the same place is the middle
        first = administer(Steady(0), instrument, asked, "base", lambda *_: None)
        last = administer(Steady(-1), instrument, asked, "base", lambda *_: None)
        scores = [ready.plugin.score(told, instrument, system, 200, 0) for told in (first, last)]
        assert all(row.parsed > 0 and row.missing == 0 for one in scores for row in one)
        assert {row.value for row in scores[0]} <= set(system.ids)
        assert [row.mean for row in scores[0]] != [row.mean for row in scores[1]], (
            "what is answered matters"
        )


@dataclasses.dataclass
class Steady:
    """Who always gives the same answer, whichever way the scale is shown."""

    place: int
    name: str = "steady"

    def fits(self, asked, room):
        return [True] * len(asked)

    def score(self, asked, length, progress):
        return [
            tuple(0.0 if answer == own else -9.0 for answer in q.answers)
            for q, own in zip(asked, self.answer(asked, 0, 0.0, progress), strict=True)
        ]

    def answer(self, asked, new_tokens, temperature, progress):
        return [q.answers[-1 - self.place if q.turned else self.place] for q in asked]


@dataclasses.dataclass
class Decoder:
    W_dec: torch.Tensor
    d_model: int = 16
    n_features: int = 8

    def encode(self, x):
        return (x @ self.W_dec.T).relu()


@every("steerings")
@pytest.mark.parametrize("unit", ["raw", "feature_max", "norm_share"])
def test_a_steering(name, unit):
    from workbench.steering.methods import StrengthScale, build_edit

    torch.manual_seed(0)
    sae = Decoder(torch.nn.functional.normalize(torch.randn(8, 16), dim=1))
    scale = StrengthScale(4.0, torch.full((8,), 3.0))
    told = [
        Steering(features=((feature, 1.0),), method=name, strength=strength, unit=unit)
        for feature, strength in ((0, 1.0), (3, 2.0), (3, -1.0))
    ]
    edit = build_edit(told, sae, scale)
    assert edit.rows == 3
    hidden = torch.randn(3, 5, 16)
    where = torch.zeros(3, 5, dtype=torch.bool)
    where[:, 2:4] = True
    before = hidden.clone()
    after = edit(hidden, where)
    assert torch.equal(hidden, before), "an edit makes a new tensor"
    assert torch.equal(after[~where], hidden[~where]), "positions outside `where` keep their bits"
    assert (after[where] - hidden[where]).abs().max() > 1e-3
    order = torch.tensor([2, 0, 2])
    assert torch.equal(edit.take(order)(hidden[order], where[order]), after[order]), (
        "rows do not depend on each other"
    )
    with pytest.raises(WorkbenchError, match="features 0 to 7"):
        build_edit(
            [Steering(features=((8, 1.0),), method=name, strength=1.0, unit=unit)], sae, scale
        )(hidden[:1], where[:1])


@every("labelers")
def test_a_labeler(name, monkeypatch):
    from sae_training.model import sentences
    from tests.helpers.planted_contexts import WordsEncoder, about_power
    from tests.helpers.planted_judgements import said_by
    from workbench.features.labelers import LabelledActivations

    monkeypatch.setattr(sentences, "SentenceEncoder", WordsEncoder)

    labeler = registry.get("labelers", name)
    assert dataclasses.is_dataclass(labeler.config)
    system = registry.get("values", "schwartz10")
    rng = np.random.default_rng(0)
    values = rng.choice([-1, 0, 1], size=(900, 10), p=[0.1, 0.8, 0.1]).astype(np.int8)
    planted = (values[:, 4] == 1) * (1 + rng.random(900))
    noise = rng.random((900, 5)) * (rng.random((900, 5)) < 0.1)
    dead = np.zeros((900, 34))
    activations = sparse.csr_matrix(np.column_stack([planted, noise, dead]).astype(np.float32))
    named = {key: {0: ("power", 1)} for key in "abc"}
    said = said_by(named, [("Ada", 0, "accept", "power", 1)])
    data = LabelledActivations(
        activations,
        values,
        np.full(900, ""),
        strongest=lambda: about_power([0], 40, each=12),
        open_model=lambda address: ScriptedLLM(_knows_power),
        judged=lambda: said,
    )
    given = {"llm": "local:scripted"} if "llm" in labeler.config.__dataclass_fields__ else {}
    labels = labeler.label(data, system, labeler.config(**given))
    assert all(isinstance(label, Label) and label.method == name for label in labels)
    assert {(label.feature, label.value, label.polarity) for label in labels if label.accepted} == {
        (0, "power", 1)
    }
    silent = dataclasses.replace(
        data, activations=sparse.csr_matrix((900, 0)), strongest=None, judged=None
    )
    if getattr(labeler, "judges", False):  # it looks at no text, and says that nobody says anything
        with pytest.raises(BadInput, match="there are none"):
            labeler.label(silent, system, labeler.config(**given))
        return
    assert labeler.label(silent, system, labeler.config(**given)) == []


def _knows_power(question):
    """Explain a feature as a reader would, who knows texts about power by one word."""
    about = "control" in question.split("What do the marked")[0]
    value = "power" if about else "none"
    return json.dumps({"explanation": "a word", "value": value, "side": "topic"})


@every("embedders")
def test_an_embedder(name, tmp_path):
    from PIL import Image

    from workbench.vision.embedders import Embedder, make

    config = registry.get("embedders", name).config
    assert dataclasses.is_dataclass(config)
    needs = (
        [f"model={small_vision.clip(tmp_path)}"] if "model" in config.__dataclass_fields__ else []
    )
    embedder = make(name, needs)
    assert isinstance(embedder, Embedder)
    assert embedder.name.startswith(name)
    pictures = [
        Image.new("RGB", size, colour)
        for size, colour in (((40, 30), "red"), ((30, 50), "blue"), ((40, 30), "red"))
    ]
    points, words = embedder.images(pictures), embedder.texts(["red", "blue"])
    assert points.shape[1] == words.shape[1]
    np.testing.assert_allclose(
        np.linalg.norm(np.concatenate([points, words]), axis=1), 1, atol=1e-5
    )
    np.testing.assert_allclose(
        points[0], points[2], atol=1e-5, err_msg="an image is placed by itself"
    )
    assert np.abs(points[0] - points[1]).max() > 1e-3
    np.testing.assert_allclose(make(name, needs).texts(["blue"])[0], words[1], atol=1e-6)


@every("assessors")
def test_an_assessor(name, tmp_path):
    fitter = registry.get("assessors", name)
    assert dataclasses.is_dataclass(fitter.config)
    needs = (
        {"folder": str(small_models.t5(tmp_path))}
        if "folder" in fitter.config.__dataclass_fields__
        else {}
    )
    texts = ["the cat sat", "the dog ran", "the cat ran to the garden", "the end"] * 3
    ratings = np.array([[1.0, 0.0, 0.5], [-1.0, 0.0, 0.5], [1.0, 0.0, -0.5], [0.0, 0.0, 0.5]] * 3)
    found = fitter.fit(texts, ratings, fitter.config(**needs)).assess(
        ["the cat ran", "", "unheard"]
    )
    assert found.rate.shape == found.label.shape == (3, 3)
    assert (np.abs(found.rate) <= 1).all()
    assert ((found.label >= 0) & (found.label <= 1)).all()
    assert np.array_equal(found.rating, found.rate * found.label)
    again = fitter.fit(texts, ratings, fitter.config(**needs)).assess(["the cat ran"])
    np.testing.assert_allclose(again.rating[0], found.rating[0], atol=1e-6)
    for spoiled in (ratings[:3], ratings * 2):
        with pytest.raises(BadInput):
            fitter.fit(texts, spoiled, fitter.config(**needs))


@every("loaders")
def test_a_loader_refuses_in_one_line(name, tmp_path):
    with pytest.raises(WorkbenchError) as caught:
        registry.get("loaders", name)(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


@every("exports")
@pytest.mark.filterwarnings("ignore:the export lacks", "ignore:steering.csv is not written")
def test_a_format(name, probed_study, tmp_path):
    """It is written whole, once, and reads the settings that it names and no other."""
    from workbench.exchange import EXPORTS, Exporter, ExportSettings

    exporter = EXPORTS[name]
    assert isinstance(exporter, Exporter)
    fields = {field.name for field in dataclasses.fields(ExportSettings)}
    assert set(exporter.reads) <= fields - {"sae"}
    steered = {"features": ("3",), "strength": 0.3} if "features" in exporter.reads else {}
    out = probed_study.export(name, tmp_path / "new" / "out", **steered)
    assert [file.name for file in out.parent.iterdir()] == ["out"], "nothing lies beside it"
    assert out.is_file() or any(out.iterdir())
    with pytest.raises(BadInput, match="exists already"):
        probed_study.export(name, out, **steered)
    for unread in fields - {"sae", *exporter.reads}:
        with pytest.raises(BadInput, match=f"does not read --{unread}"):
            probed_study.export(name, tmp_path / "other", **steered, **{unread: "raw"})
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, probed_study):
    folder = tmp_path_factory.mktemp("classifier") / "tiny"
    tiny_classifier(folder, probed_study.system.ids)
    return folder


def tiny_classifier(folder, values):
    """A random text classifier with one class a value, in Hugging Face's format."""
    from transformers import BertConfig, BertForSequenceClassification

    from tests.helpers.small_models import tokenizer

    torch.manual_seed(0)
    names = dict(enumerate(values))
    config = BertConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=48,
        id2label=names,
        label2id={value: number for number, value in names.items()},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    made = tokenizer()
    made.pad_token = made.eos_token
    made.save_pretrained(folder)


@every("detectors")
def test_a_detector(name, probed_study, classifier):
    from workbench.steering.gates import Detector, gate, make

    study = probed_study
    plugin = registry.get("detectors", name)
    assert dataclasses.is_dataclass(plugin.config)
    plugin.config()
    fields = {field.name for field in dataclasses.fields(plugin.config)}
    settings = [
        told
        for told in (f"folder={classifier}", f"feature={_live(study)}")
        if told.split("=")[0] in fields
    ]
    detector = make(study, name, "Power", settings)
    assert isinstance(detector, Detector)
    assert detector.name
    texts = [
        "I gave orders to the whole team.",
        "The bus came a little late.",
        "I washed the cups. " * 6,
        "I gave orders to the whole team.",
    ]
    scores = detector.scores(texts)
    assert scores.shape == (4,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[0] == pytest.approx(scores[3], abs=1e-6), "a text is judged by itself"
    np.testing.assert_allclose(detector.scores(texts[1:2]), scores[1:2], atol=1e-5)
    assert gate(detector, texts, 0.0).open.all()
    assert not gate(detector, texts, 1.01).open.any()
    with pytest.raises(WorkbenchError) as caught:
        make(study, name, "powr", settings)
    assert "\n" not in str(caught.value)


def _live(study):
    return int(
        study.store.sql("SELECT feature FROM features ORDER BY n_active DESC LIMIT 1").feature[0]
    )


@pytest.mark.parametrize("name", VERBS)
def test_what_a_verb_says_first_is_its_own(name):
    """A module that imports something of that name must not have it called after every run."""
    first_lines = verbs.load(name).first_lines
    assert first_lines.__module__ in ("workbench.verbs", f"workbench.verbs.{name}")
    assert list(inspect.signature(first_lines).parameters) == ["study", "run"]
