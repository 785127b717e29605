"""A whole study from one job file: checked before it starts, as far as it can go, never twice."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from feature_store import queries
from feature_store.errors import BadInput, NotFound
from feature_store.progress import silent
from tests.helpers.labels import LAX
from workbench.command.cli import main
from workbench.command.job import check_needs, read_job, run_job
from workbench.command.page import _score, page
from workbench.study import Study

JOBS = Path(__file__).parents[2] / "jobs"
SMALL = f"""
model = "organism"
replicates = 100

[train]
documents = 100
tokens = 8_192
n_features = 64
k = 8

[label]
limit = 800
n_contexts = 0
options = {list(LAX)}

[measure]
n_contexts = 3

[effects.directions]
steer = "directions"
part = "pole"
n_contexts = 4
n_neutral = 4
doses = [0.2, 0.4]
random_features = 0
random_directions = 4

[effects.features]
features_per_value = 1
n_contexts = 4
n_neutral = 4
doses = [0.2, 0.4]
random_features = 2
random_directions = 2

[graph]
effects = "effects.directions"
"""


def written(folder, text):
    file = folder / "job.toml"
    file.write_text(text, encoding="utf-8")
    return file


def ids(outcome):
    return {name: run.id for name, run in outcome.runs.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    file = written(folder, SMALL)
    study = Study(folder / "study")
    shown = []
    outcome = run_job(study, read_job(file).stages, lambda stage, *_: shown.append(stage))
    return study, file, outcome, shown


def test_stages_run_in_the_order_of_the_file(made):
    study, file, outcome, shown = made
    assert not outcome.failed
    assert [*outcome.runs] == [
        *("train", "label", "measure", "effects.directions", "effects.features", "graph")
    ]
    assert outcome.runs["graph"].inputs["effects"] == outcome.runs["effects.directions"].id
    assert outcome.runs["effects.directions"].config["replicates"] == 100
    assert shown[0].startswith("1 of 6, train: ")
    assert shown[-1].startswith("6 of 6, graph: ") or shown[-1].startswith("5 of 6")
    again = run_job(study, read_job(file).stages, silent)
    assert ids(again) == ids(outcome)
    assert len(study.runs.all()) == 6


def test_the_page_says_what_the_store_holds(made):
    study, _, outcome, _ = made
    text = page(study)
    profile = queries.profile(study.store, outcome.runs["measure"].id)
    names = {value.id: value.name for value in study.system.values}
    for row in profile[profile.steering == "base"].itertuples():
        name = names[row.value]
        assert f"| {name} | {row.mean:+.2f} [{row.low:+.2f}, {row.high:+.2f}] | {row.n} |" in text
    for name in ("directions of the pole", "features"):
        assert f"## What moves with what: {name}\n" in text
    for run in outcome.runs.values():
        assert run.id in text
    edges = queries.edges(study.store, outcome.runs["graph"].id)
    assert f"{int(edges.present.sum())} of {len(edges)} ordered pairs" in text or (
        f"No edge among {len(edges)} ordered pairs" in text
    )
    assert text.rstrip().endswith("shows the rest.")


def test_the_page_says_what_carries_a_value_as_the_store_does(made):
    study, _, outcome, _ = made
    text = page(study)
    names = {value.id: value.name for value in study.system.values}
    best = queries.accepted_labels(study.store, outcome.runs["label"].id, "")
    assert len(best), "the study must have labels for this to be a test"
    for row in best.drop_duplicates("value").itertuples():
        line = next(line for line in text.splitlines() if f"| {row.feature}: " in line)
        assert line.startswith(f"| {names[row.value]} |")
        assert f"{row.effect:+.2f} [{row.low:+.2f}, {row.high:+.2f}]" in line
        assert f"AUROC {row.score:.2f}, n {row.n} |" in line


@pytest.mark.parametrize(
    ("part", "score", "low", "high", "said"),
    [
        ("pole", 1.24, 1.0, 1.0, "1.24, n 61"),
        ("pole", 0.93, 0.84, 1.0, "0.93, n 61"),
        ("pole", 0.81, 0.72, 0.9, "0.81 [0.72, 0.90], n 61"),
        ("topic", 0.98, 0.95, 1.0, "0.98 [0.95, 1.00], n 61"),
    ],
)
def test_an_interval_that_was_cut_is_not_shown(part, score, low, high, said):
    assert _score(SimpleNamespace(part=part, score=score, low=low, high=high, n=61)) == said


def test_a_profile_whose_intervals_all_hold_zero_is_said_to_find_nothing(made, monkeypatch):
    study = made[0]
    told = "- No value of its profile leaves 0 beyond its interval."
    rows = queries.profile(study.store, made[2].runs["measure"].id)
    for low, is_told in ((-1.0, True), (0.01, False)):
        shifted = rows.assign(mean=0.02, low=low, high=1.0)
        monkeypatch.setattr(queries, "profile", lambda *_, shifted=shifted: shifted)
        assert (told in page(study)) is is_told


def test_effects_without_controls_are_no_null_finding(made, monkeypatch):
    study = made[0]
    matrix = queries.matrix
    monkeypatch.setattr(
        queries,
        "matrix",
        lambda *given: matrix(*given).assign(null_low=float("nan"), null_high=float("nan")),
    )
    text = page(study)
    assert "No control was steered beside them" in text
    assert "leaves the null band" not in text
    assert "is told from chance" not in text


def test_the_command_prints_the_page_and_keeps_it(made, capsys):
    study, file, _, _ = made
    assert main(["study", str(study.folder), "--job", str(file)]) == 0
    printed = capsys.readouterr().out
    assert page(study) in printed
    assert (study.folder / "page.md").read_text("utf-8") == page(study)
    assert main(["study", str(study.folder)]) == 0
    assert capsys.readouterr().out == printed


def test_texts_of_others_are_escaped(made, monkeypatch):
    study = made[0]
    run = study.runs.all("sae-")[-1]
    hostile = "x\x1b[2J<img src=x> [a](http://b) | *c*"
    for said in ("model", "layer", "n_features"):
        monkeypatch.setitem(run.summary, said, hostile)
    monkeypatch.setattr(type(study.runs), "all", lambda self, start="": [run])
    text = page(study)
    assert "\x1b" not in text
    assert "<img" not in text
    assert text.count(r"\[a\](http://b) \| \*c\*") == 3


def test_a_stage_that_fails_takes_along_only_what_builds_on_it(tmp_path, capsys):
    text = SMALL.replace("limit = 800", 'labelled = "nosuch.csv"')
    file = written(tmp_path, text)
    assert main(["study", str(tmp_path / "study"), "--job", str(file)]) == 2
    said = capsys.readouterr()
    assert "label is missing: There is no table" in said.err
    assert "effects.directions is missing: it builds on label" in said.err
    assert "graph is missing: it builds on effects.directions" in said.err
    assert "4 of 6 stages are missing" in said.err
    assert "## What it values" in said.out, "the profile needs no labels"
    assert "## What moves with what" not in said.out
    kept = (tmp_path / "study" / "page.md").read_text("utf-8")
    assert "- \\[label\\] made no run: There is no table" in kept
    assert "- What moves with what: the study has no run of it." in kept
    before = {run.id for run in Study(tmp_path / "study").runs.all()}
    outcome = run_job(Study(tmp_path / "study"), read_job(written(tmp_path, SMALL)).stages, silent)
    assert not outcome.failed
    assert before < set(ids(outcome).values())


def test_an_interrupted_job_goes_on(tmp_path, made, capsys, monkeypatch):
    stages = read_job(made[1]).stages[:3]
    study = Study(tmp_path / "study")

    def stop(stage, done, total):
        if stage.startswith("2 of 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(study, stages, stop)
    assert [run.kind for run in study.runs.all()] == ["sae"]
    outcome = run_job(study, stages, silent)
    assert ids(outcome).items() <= ids(made[2]).items()


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("[trian]\n", NotFound, "no verb 'trian'. Did you mean 'train'"),
        ("[train]\nlayr = 2\n", NotFound, r"\[train\]: There is no setting 'layr'"),
        ("[measure]\n[effects]\ndoses = 'x'\n", BadInput, r"\[effects\]: --doses expects float"),
        ("model = 'organism'\n", BadInput, "names no stage"),
        ("colour = 1\n[train]\n", NotFound, "no stage has a setting colour"),
        ("[effects]\nseed = 1\n[effects.a]\n", BadInput, r"the setting seed beside them.*\[eff"),
        ("[train]\n[train]\n", BadInput, "."),
        ("train = 1\n", BadInput, "."),
    ],
)
def test_a_job_that_cannot_run_is_refused_before_it_starts(tmp_path, text, kind, said):
    with pytest.raises(kind, match=said):
        read_job(written(tmp_path, text))


def test_what_no_stage_makes_is_refused_before_the_first(tmp_path, capsys):
    study = Study(tmp_path / "study")
    stages = read_job(written(tmp_path, "[train]\n[effects]\n[label]\n")).stages
    with pytest.raises(BadInput, match=r"kind labels, .*\. Move \[label\] above \[effects\]"):
        check_needs(study, stages)
    stages = read_job(written(tmp_path, "[graph]\n")).stages
    with pytest.raises(BadInput, match=r"kind effects, .*\. Add \[effects\] above it"):
        check_needs(study, stages)
    job = written(tmp_path, "[measure]\nmodel = 'organism'\n")
    check_needs(study, read_job(job).stages)
    assert main(["study", str(tmp_path / "new"), "--job", str(tmp_path / "no.toml")]) == 2
    assert "There is no job file" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


CHAIN = "[train]\n[label]\n[effects.a]\n[effects.b]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[graph]\neffects = 'effects.aa'\n", "neither an earlier stage nor a run: 'effects.aa'"),
        ("[graph]\neffects = 'label'\n", r"\[label\] makes one of kind labels"),
        ("[graph]\neffects = 'hear'\n[hear]\n", r"Move \[hear\] above \[graph\]"),
        (
            "[graph]\neffects = 'effects.a'\n[predict]\n",
            r'graph \[graph\] on \[effects.a\]. Write effects = "effects.a" into \[predict\]',
        ),
    ],
)
def test_a_stage_that_is_named_wrongly_is_refused_before_the_first(tmp_path, text, said):
    with pytest.raises((BadInput, NotFound), match=said):
        check_needs(Study(tmp_path / "study"), read_job(written(tmp_path, CHAIN + text)).stages)


def test_stages_that_are_named_rightly_are_taken(tmp_path):
    text = CHAIN + "[graph]\neffects = 'effects.a'\n[predict]\neffects = 'effects.a'\n"
    stages = read_job(written(tmp_path, text)).stages
    check_needs(Study(tmp_path / "study"), stages)
    assert stages[-1].builds_on == {"effects": "effects.a", "graph": "graph"}


COMPARED = """
model = "organism"
[measure.calm]
n_contexts = 3
[measure.stern]
n_contexts = 3
persona = "Be stern."
[ordinal]
runs = ["measure.calm", "measure.stern", "profile-0123456789"]
"""


def test_a_list_of_runs_may_name_stages(tmp_path, monkeypatch):
    asked, failing = [], []

    def do(self, verb, settings, progress):
        """Note what is asked of a verb."""
        asked.append((verb, settings.get("runs")))
        if settings.get("persona") in failing:
            raise NotFound("no such persona")
        return SimpleNamespace(id=f"{verb}-{len(asked)}")

    monkeypatch.setattr(Study, "do", do)
    study = Study(tmp_path / "study")
    stages = read_job(written(tmp_path, COMPARED)).stages
    run_job(study, stages, silent)
    assert asked[-1] == ("ordinal", ["measure-1", "measure-2", "profile-0123456789"])
    failing.append("Be stern.")
    outcome = run_job(study, stages, silent)
    assert outcome.failed["ordinal"] == "it builds on measure.stern"
    with pytest.raises(BadInput, match=r"Move \[measure.stern\] above \[ordinal\]"):
        check_needs(study, [stages[0], stages[2], stages[1]])


def test_a_page_without_runs_says_what_is_missing(tmp_path):
    text = page(Study(tmp_path / "study"), {"label": "no <b>table</b>\n# x"})
    assert "- \\[label\\] made no run: no &lt;b&gt;table&lt;/b&gt; \\# x" in text
    assert "- What the model values: the study has no run of it." in text
    assert "Whatever was looked for was found" not in text


def test_a_verb_with_several_stages_is_not_run_alone(tmp_path, made, capsys):
    assert main(["effects", str(made[0].folder), "--job", str(made[1])]) == 2
    assert "runs effects several times (directions, features)" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(JOBS.glob("*.toml")), ids=lambda file: file.stem)
def test_the_jobs_that_ship_can_be_read(file):
    assert read_job(file).stages


def test_a_job_names_the_value_system_of_its_study(tmp_path):
    job = read_job(written(tmp_path, "system = 'schwartz19'\n[train]\n"))
    assert job.system == "schwartz19"
    assert read_job(written(tmp_path, "[train]\n")).system == ""
