"""The same work has the same bytes, whatever was kept, torn, or asked before."""

import json
from pathlib import Path

import pytest

from feature_store.errors import BadInput
from sae_training.model.runtime import Runtime
from tests.helpers import small_models
from tests.helpers.counting import assert_counts
from workbench import Study
from workbench.llm import ask
from workbench.llm.cached import CachedLLM
from workbench.llm.local import BATCH, LocalLLM
from workbench.llm.units import cut
from workbench.measuring import respondents

ASKED = {"model": "organism", "wordings": ("plain",), "replicates": 100}


def files(study: Study, **settings) -> dict[str, str]:
    """Measure, and give the checksums of what the run holds."""
    return study.measure(**ASKED | settings).files


def torn(file: Path, *numbers: int) -> None:
    """Tear lines of a file of answers in the middle, as a crash does."""
    lines = file.read_bytes().splitlines()
    for number in numbers:
        lines[number] = lines[number][: len(lines[number]) // 2]
    file.write_bytes(b"\n".join(lines) + b"\n")


def without_runs(study: Study) -> Study:
    """The same study with its kept answers alone."""
    for file in sorted((study.folder / "runs").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    return Study(study.folder)


def test_what_is_asked_is_cut_by_itself_alone():
    units = cut(["b", "a", "b", "c"], [1, 0, 2, 3], 2, "cpu")
    assert [unit.rows for unit in units.parts] == [(1, 0), (3,)]
    assert units.keys[0] == units.keys[2] == units.parts[0].keys[1]
    assert len(set(units.keys)) == 3
    assert cut(["b", "a"], [1, 0], 2, "cpu").keys == units.keys[:2]
    assert not set(cut(["b", "a"], [0, 1], 2, "cpu").keys) & set(units.keys)
    assert not set(cut(["a"], [0], 2, "cpu").keys) & set(units.keys)
    assert not set(cut(["b", "a"], [1, 0], 2, "cpu, 2 threads").keys) & set(units.keys)
    assert units.parts[0].lacks(units.keys[:1])
    assert not units.parts[0].lacks(units.keys)


@pytest.mark.parametrize("numbers", [(3,), (0, 17), (-1,)])
def test_a_torn_line_is_asked_again_to_the_same_bytes(tmp_path, numbers):
    study = Study(tmp_path / "study")
    expected = files(study, n_contexts=2)
    torn(study.folder / "scores.jsonl", *numbers)
    assert files(without_runs(study), n_contexts=2) == expected


def test_what_was_asked_before_changes_no_bytes(tmp_path):
    expected = files(Study(tmp_path / "fresh"), n_contexts=3)
    study = Study(tmp_path / "study")
    files(study, n_contexts=2)
    assert files(study, n_contexts=3) == expected


def test_a_torn_answer_in_words_is_asked_again_to_the_same_bytes(tmp_path):
    study = Study(tmp_path / "study")
    written = {"mode": "generate", "temperature": 1.0, "n_contexts": 1}
    expected = files(study, **written)
    torn(study.folder / "answers.jsonl", 5)
    assert files(without_runs(study), **written) == expected


def test_scores_of_another_machine_are_not_mixed_in(tmp_path, monkeypatch):
    study = Study(tmp_path / "study")
    expected = files(study, n_contexts=2)
    kept = (study.folder / "scores.jsonl").read_text()
    # Another machine's last digits, marked so that none of them could be missed.
    spoilt = [json.loads(line) for line in kept.splitlines()]
    for line in spoilt:
        line["logprobs"] = [0.0] * len(line["logprobs"])
    text = "".join(json.dumps(line) + "\n" for line in spoilt)
    (study.folder / "scores.jsonl").write_text(text)
    monkeypatch.setattr(Runtime, "machine", "cpu of another kind")
    assert files(without_runs(study), n_contexts=2) == expected


def test_answers_that_are_kept_count_as_done_before_the_first_unit(tmp_path, monkeypatch):
    monkeypatch.setattr(respondents, "TOGETHER", 16)
    study = Study(tmp_path / "study")
    reports = []

    def progress(stage, done, total):
        reports.append((done, total))

    files(study, n_contexts=2, progress=progress)
    questions = reports[-1][1]
    assert_counts(reports)
    assert questions > 4 * 16
    torn(study.folder / "scores.jsonl", 20, 40)
    reports.clear()
    files(without_runs(study), n_contexts=2, progress=progress)
    assert_counts(reports, first=questions - 2 * 16)


def test_a_model_here_is_asked_a_whole_batch_again(tmp_path):
    own = small_models.model(chat=True)
    talks = [ask(f"the cat {number}") for number in range(BATCH + 3)]
    file = tmp_path / "answers.jsonl"
    sampling = {"max_new_tokens": 4, "temperature": 1.0, "seed": 3}
    first = CachedLLM(LocalLLM(own), file)
    expected = first.chat(talks, **sampling)
    assert first.asked == BATCH + 3
    torn(file, BATCH + 1)
    again = CachedLLM(LocalLLM(own), file)
    assert again.chat(talks, **sampling) == expected
    assert again.asked == 3
    whole = CachedLLM(LocalLLM(own), file)
    assert whole.chat(talks, **sampling) == expected
    assert whole.asked == 0


def test_scores_that_are_no_numbers_are_refused_before_they_are_kept(tmp_path, monkeypatch):
    import torch

    from sae_training.engine import scoring

    monkeypatch.setattr(
        scoring,
        "score_rows",
        lambda model, prompts, answers, *_, **more: torch.full(
            (1, len(answers), len(answers[0])), float("nan")
        ),
    )
    with pytest.raises(BadInput, match="questions"):
        files(Study(tmp_path / "study"), n_contexts=1)
    assert not (tmp_path / "study" / "scores.jsonl").exists()
