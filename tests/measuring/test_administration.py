"""An instrument through the verb `measure`: here, steered, behind an endpoint, interrupted, too
long."""

import dataclasses

import numpy as np
import pytest

from feature_store import queries
from feature_store.errors import BadInput, Incompatible, WorkbenchError
from feature_store.records import Instrument, Item
from tests.helpers.endpoints import serve
from workbench.measuring import questionnaire
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.questionnaire import Opened, Questionnaire
from workbench.measuring.questions import questions
from workbench.measuring.respondents import LocalRespondent
from workbench.study import Study


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path / "study")


def lean(**more):
    return {"model": "organism", "n_contexts": 3, "replicates": 200, "wordings": ("plain",)} | more


def test_a_profile_of_a_model_that_only_talks(study):
    """Each answer is asked once, what cannot be read is counted, and an endpoint that changes
    midway is refused.
    """
    with serve(lambda body, number: ["5", "I cannot answer that.", "purple"][number % 3]) as script:
        settings = lean(
            model=f"{script.url}#tiny-1",
            mode="generate",
            wordings=("number",),
            contexts="none",
            persona="You are a nurse.",
        )
        run = study.measure(**settings)
        assert len(script.requests) == 40 * 2, "two orders"
        assert script.requests[0]["messages"][0] == {
            "role": "system",
            "content": "You are a nurse.",
        }
        assert study.measure(**settings).id == run.id
        assert (
            study.measure(**settings | {"replicates": 300}).summary["missing"]
            == run.summary["missing"]
        )
        assert len(script.requests) == 40 * 2, "another run asks nothing that is known"
        told = queries.quality(study.store, run.id).set_index("metric").value
        assert told["refused"] == pytest.approx(27 / 80, abs=0.02)
        assert told["unparsed"] == pytest.approx(26 / 80, abs=0.02)
        answers = queries.responses(study.store, run.id, "base")
        assert set(answers.persona) == {"You are a nurse."}
        assert answers[answers.status != "parsed"].rating.isna().all()
        with pytest.raises(BadInput, match="answers in words only"):
            study.measure(**settings | {"mode": "logprob"})
        with pytest.raises(BadInput, match="cannot be steered"):
            study.measure(**settings | {"features": ("1",), "strength": 1.0})


def test_an_endpoint_that_changes_its_name_midway_is_refused(study):
    from tests.helpers.endpoints import completion

    with (
        serve(
            lambda body, number: completion("5", model="tiny-1" if number < 5 else "tiny-2")
        ) as script,
        pytest.raises(WorkbenchError, match="answered as tiny-1 before and as tiny-2 now"),
    ):
        study.measure(
            **lean(
                model=f"{script.url}#tiny", mode="generate", wordings=("number",), contexts="none"
            )
        )
    assert not study.runs.all()


def test_what_was_answered_before_an_interruption_is_not_asked_again(study, monkeypatch):
    from sae_training.engine import scoring
    from workbench.measuring import respondents

    monkeypatch.setattr(respondents, "TOGETHER", 32)

    def stop(stage, done, total):
        if done >= 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.measure(progress=stop, **lean())
    kept = len((study.folder / "scores.jsonl").read_text().splitlines())
    assert 64 <= kept < 3 * 40
    asked, score = [], scoring.score_rows
    monkeypatch.setattr(
        scoring,
        "score_rows",
        lambda model, prompts, *more, **named: (
            asked.extend(prompts.prompts) or score(model, prompts, *more, **named)
        ),
    )
    run = study.measure(**lean())
    assert len(asked) == 3 * 40 - kept
    whole = Study(study.folder.parent / "another").measure(**lean())
    assert queries.profile(study.store, run.id).equals(
        queries.profile(Study(study.folder.parent / "another").store, whole.id)
    )


class Long(Questionnaire):
    """Three items, of which one is longer than the organism reads."""

    def load(self, settings, system):
        items = (
            Item(id="a", text="I lead.", value="power"),
            Item(id="b", text="I lead. " * 400, value="power"),
            Item(id="c", text="I help.", value="benevolence"),
        )
        return Instrument(
            id="long",
            title="Long",
            items=items,
            options=tuple("123456"),
            wordings=(("plain", "{item} :"),),
            system=system.id,
            source="",
            licence="",
        )


def test_an_item_longer_than_the_model_reads_is_named_and_counted(study, monkeypatch):
    opened = Opened(Long(), Long().load(None, study.system))
    monkeypatch.setattr("workbench.comparing.profile_run.open_instrument", lambda *_: opened)
    run = study.measure(**lean(contexts="none"))
    assert run.summary["too_long"] == 1
    assert run.summary["too_long_items"] == "b"
    answers = queries.responses(study.store, run.id, "base").set_index("item")
    assert answers.status.to_dict() == {"a": "parsed", "b": "too-long", "c": "parsed"}
    power = queries.profile(study.store, run.id).set_index("value").loc["power"]
    assert (power.parsed, power.missing) == (1, 1)


def test_answers_of_several_tokens_are_compared_per_token(tmp_path):
    from sae_training.engine.opening import open_model
    from workbench import organism
    from workbench.instruments.standin import standin

    model = open_model(str(organism.folder()))
    phrases = ("like me", "I wanted to be in charge of all the others")
    told = dataclasses.replace(standin(), options=phrases)
    asked = questions(told, [""], ["plain"])[:4]
    tokens = np.array(
        [
            len(model.tokenizer(f" {phrase}", add_special_tokens=False)["input_ids"])
            for phrase in phrases
        ]
    )
    assert tokens[1] > tokens[0]
    per_token, summed = (
        np.array(
            [
                r.logprobs
                for r in administer(
                    LocalRespondent(model, tmp_path),
                    told,
                    asked,
                    "base",
                    lambda *_: None,
                    elicitation=Elicitation(length=length),
                )
            ]
        )
        for length in ("mean", "sum")
    )
    np.testing.assert_allclose(per_token * tokens, summed, rtol=1e-9)


def test_wrong_settings_are_one_line(study):
    with pytest.raises(BadInput, match="ships whole and has nothing to set"):
        study.measure(**lean(settings=("items=x",)))
    with pytest.raises(Incompatible, match="another instrument"):
        fine = Study(study.folder.parent / "fine", system="schwartz19")
        fine.measure(**lean(instrument="standin"))
    with pytest.raises(BadInput, match="needs no judge"):
        study.measure(**lean(mode="generate", judge="organism"))
    with pytest.raises(BadInput, match="not sampled are the same answer"):
        study.measure(**lean(repeats=3))
    assert questionnaire.open_instrument("standin", (), study.system).instrument.answer == "rating"
