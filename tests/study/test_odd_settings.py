"""Every flag of every verb, at odd values: the work begins, or one line says why it does not.

1. A small study of the organism has a run of every kind that a verb builds on.
2. Each setting of each verb is set to values that a person may type by mistake: nothing, zero, a
   negative or huge number, NaN, an unknown name, a name twice, a byte that no text has.
3. The verb stops where it would begin its work. Until then it must have raised nothing but a
   `WorkbenchError` whose message is one line, within seconds.
4. Marked `slow`: the work does begin, and goes on for some seconds. Whatever is refused must be
   refused before progress is shown, and must leave nothing behind.
"""

import contextlib
import dataclasses
import json
import re
import shutil
import signal
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from feature_store.errors import BadInput, NotFound, WorkbenchError
from tests.helpers.labels import LAX
from workbench import settings, verbs
from workbench.study import Study
from workbench.verb_table import VERBS
from workbench.workspace import Workspace

pytestmark = pytest.mark.slow_file

TEXTS = ("", "nosuch", "0", "-1", "nan", "a\0b", "power,power", "½\ud800", ".", "x" * 300)
NUMBERS = ("", "0", "-1", "1", "2", "nan", "inf", "1e308", "1e-300", "9" * 30, "1e3")
LISTS = ("", ",", "nosuch", "nosuch,nosuch", "0", "-1", "0.5,0.1", "nan", "power", "power=9", ":")
BASE = {
    "train": {"model": "organism", "documents": 20, "tokens": 500},
    "adopt": {"documents": 20},
    "survey": {"limit": 600, "n_contexts": 2, "n_written": 1},
    "label": {"limit": 200, "n_contexts": 1},
    "describe": {},
    "borrow": {},
    "probe": {"n_pairs": 12},
    "control": {"value": "power", "judge": "organism", "layers": (1,)},
    "index": {"embedder": "colour"},
    "hear": {"model": "organism", "templates": 2, "open_questions": 1},
    "measure": {"n_contexts": 2, "features": ("3",), "strength": 0.3},
    "contrast": {"subjects": ("base", "power+"), "n_contexts": 2},
    "ordinal": {},
    "effects": {"n_contexts": 4},
    "score": {},
    "forecast": {},
    "graph": {},
    "predict": {"largest": 2},
    "compare": {"n_contexts": 4, "n_neutral": 4, "n_texts": 4},
    "transfer": {"n_texts": 4, "n_neutral": 2, "controls": 2, "assess_limit": 200},
    "plan": {"want": "power +0.1"},
    "counterfactual": {"target": ("power=5",)},
    "couple": {"llm": "organism"},
    "kang": {"roles": 3, "test_roles": 2},
    "scenarios": {"llm": "organism", "n": 2},
    "dilemmas": {"llm": "organism", "n": 2},
    "verdict": {"feature": 3, "value": "power", "labeller": "me", "note": "because"},
    "review": {"scenario": "s0001", "verdict": "reject", "note": "because", "reviewer": "me"},
    "decide": {"features": ("3",), "strength": 0.3},
    "adaem": {"population": ("base", "power+"), "n_seeds": 3},
    "neurons": {"values": ("power",), "n_answers": 2, "n_contexts": 2, "n_neutral": 2},
}
"""Verb -> settings with which its work begins."""


SECONDS = 10
"""What is neither refused nor begun after so much time of the processor hangs [s]."""


@contextlib.contextmanager
def _processor_time(limit: float, error: type[BaseException] = AssertionError) -> Iterator[None]:
    """Raise `error` in the block once it has used so much time of the processor [s]."""

    def stop(*_: object) -> None:
        raise error("The time is over.")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Begins(BaseException):
    """The verb would begin its work now."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with a run of every kind that a verb builds on, made in seconds."""
    folder = tmp_path_factory.mktemp("odd")
    made = Study(folder / "study")
    made.train(model="organism", documents=100, tokens=8_192, n_features=64, k=8, cache=False)
    made.label(limit=300, n_contexts=1, scored_per_value=1, options=LAX)
    made.probe(n_pairs=12, top_features=1)
    made.measure(n_contexts=2, replicates=100)
    made.effects(
        n_contexts=12,
        features_per_value=1,
        doses=(0.6,),
        random_features=1,
        random_directions=1,
        n_neutral=2,
        replicates=100,
    )
    _write_graph(made)
    made.describe(top=2)
    made.scenarios(llm="organism", n=2)
    place = {"modelId": "organism", "layer": f"{made.runs.latest('sae').summary['layer']}-x"}
    explanation = json.dumps(place | {"index": "3", "description": "orders"})
    (folder / "explanations.jsonl").write_text(explanation + "\n", encoding="utf-8")
    (folder / "images").mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "images" / "red.bmp")
    return made


def _write_graph(study: Study) -> None:
    """A graph of two values, which the sweep of so small a study would not give."""
    effects = study.runs.latest("effects")
    edge = {"weight": 0.5, "low": 0.4, "high": 0.6, "z": 5.0, "p": 0.01, "q": 0.02}
    edge |= {"frequency": 1.0, "present": True, "total": 0.5, "total_low": 0.4, "total_high": 0.6}
    pairs = [("power", "security"), ("security", "power")]
    fields = verbs.load("graph").settings(effects=effects.id)
    inputs = {"effects": effects.id, "sae": effects.inputs["sae"]}
    with study.runs.begin("graph", settings.plain(fields), inputs, 0) as work:
        rows = [{"source": a, "target": b} | edge for a, b in pairs]
        work.table("edges", rows)
        work.finish({"level": 0.05, "contexts": 12})


def odd_values(kind: type) -> tuple[str, ...]:
    """Odd values for a field of that type, as a flag would give them."""
    kind, _ = settings._unmarked(kind)
    if settings._element(kind) is not None:
        return LISTS
    if kind is bool:
        return ()
    if settings._choices(kind):
        return ("", "nosuch", *settings._choices(kind))
    return NUMBERS if "int" in str(kind) or "float" in str(kind) else TEXTS


def cases(verb: str, study: Study) -> list[tuple[str, str, dict]]:
    """(field, value, settings) of every odd value of a verb."""
    base = dict(BASE[verb])
    if verb == "adopt":
        base["address"] = str(study.runs.folder / study.runs.latest("sae").id / "sae")
    if verb == "borrow":
        base["source"] = str(study.folder.parent / "explanations.jsonl")
    if verb == "index":
        base["folder"] = str(study.folder.parent / "images")
    kinds = typing.get_type_hints(verbs.load(verb).settings, include_extras=True)
    return [
        (field.name, value, base | {field.name: value})
        for field in dataclasses.fields(verbs.load(verb).settings)
        for value in odd_values(kinds[field.name])
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_an_odd_setting_is_refused_in_one_line_or_the_work_begins(verb, study, monkeypatch):
    def begins(*_: object, **__: object) -> None:
        raise Begins

    monkeypatch.setattr(Workspace, "make", begins)
    begun, lines = 0, []
    for field, value, given in [("", "", {}), *cases(verb, study)]:
        given = given or cases(verb, study)[0][2] | BASE[verb]
        try:
            with contextlib.suppress(Begins):
                with _processor_time(SECONDS):
                    study.do(verb, given)
                continue
            begun += 1
        except WorkbenchError as error:
            lines += [] if str(error).isprintable() else [f"{field}={value!r}: {error}"]
        except Exception as error:
            raise AssertionError(f"{verb} with {field}={value!r}") from error
    assert not lines, f"{verb} is refused with control characters: {lines}"
    assert begun > 1, f"{verb} never began, so nothing was tried beyond its first refusal"


def test_a_target_that_the_graph_lacks_is_refused_in_words(study):
    with pytest.raises(BadInput, match=r"The graph has no benevolence; it has power, security"):
        study.counterfactual(target=("benevolence=5",))
    assert study.runs.unfinished() == []


@pytest.mark.parametrize("verb", sorted({"effects", "predict", "compare", "measure", "plan"}))
def test_too_few_replicates_are_refused_at_once(verb, study):
    with pytest.raises(BadInput, match="--replicates is between 100 and 100000, got 50"):
        study.do(verb, BASE[verb] | {"replicates": "50"})


@pytest.mark.parametrize(
    ("verb", "more", "message"),
    [
        ("effects", {"n_contexts": "1"}, "--n-contexts is between 2"),
        ("effects", {"n_contexts": "2", "contexts": "same.txt"}, "same in every context"),
        ("compare", {"n_contexts": "3"}, "--n-contexts is between 4"),
        ("predict", {"steerings": "2"}, "--steerings is between 3"),
        ("probe", {"n_pairs": "4"}, "at least 10 contexts of each value, got .*power 4"),
        ("label", {"options": ("min_texts=5000",)}, "No value is carried by 5000 texts"),
        ("label", {"options": ("min_texts=1",), "limit": "12"}, "degrees of freedom"),
        ("measure", {"gate": "probe", "gate_value": "nosuch"}, "is not a value of"),
        ("kang", {"features": ("64",)}, "features 0 to 63"),
        ("decide", {"folds": "9", "assessor": "tfidf", "preference": "latest"}, "2 to 2 folds"),
    ],
)
def test_what_counts_and_names_decide_is_refused_before_the_work(
    verb, more, message, study, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("same.txt").write_text("I walked home.\nI walked home.\n", encoding="utf-8")
    calls: list[object] = []
    with pytest.raises((BadInput, NotFound), match=message):
        study.do(verb, BASE[verb] | more, lambda *call: calls.append(call))
    # Whether contexts differ shows in what is asked unsteered, before anything is steered.
    work = [call for call in calls if call[0] != "asking unsteered"]
    assert work == [], "progress was shown before"
    assert study.runs.unfinished() == []


DATA = (
    "no change of the ratings|cannot be reached|meets the wish|are the same in every context|"
    "gives NaN|overflow|no opinion|readable questions|topics have a question"
)
"""Words of refusals that follow from what was measured, which nothing could say before."""


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_refused_is_refused_before_progress_is_shown(verb, study, tmp_path):
    late = []
    for number, (field, value, given) in enumerate(cases(verb, study)):
        folder = tmp_path / str(number)
        shutil.copytree(study.folder, folder)
        calls: list[object] = []
        try:
            with contextlib.suppress(Begins), _processor_time(6, Begins):
                Study(folder).do(verb, given, lambda *call, calls=calls: calls.append(call))
        except WorkbenchError as error:
            left = [file for file in (folder / "runs" / ".work").glob("*/**/*") if file.is_file()]
            if (calls or left) and not re.search(DATA, str(error)):
                late.append(f"--{field} {value!r}: {error}")
        shutil.rmtree(folder)
    assert not late, "\n".join(late)
