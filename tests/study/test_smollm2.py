"""A real chat model, fetched by its short name: it is the model that it should be, and what a
persona primes is heard in its own words."""

import numpy as np
import pytest
import torch

from feature_store import registry
from workbench.instruments.standin import standin
from workbench.measuring import hearing, voice
from workbench.measuring.scored import ScoredQuestions
from workbench.study import Study

pytestmark = pytest.mark.slow_file


@pytest.fixture(scope="module")
def model(smollm2, tmp_path_factory):
    return Study(tmp_path_factory.mktemp("smollm2") / "study").model(smollm2)


def test_it_is_the_model_that_it_should_be(model):
    """Its loss and its next word on a known sentence, by transformers alone."""
    ids = model.encode(["The capital of France is Paris, and the capital of Germany is"], False)[0]
    with torch.no_grad():
        out = model.module(input_ids=torch.tensor([ids]), labels=torch.tensor([ids]))
    assert float(out.loss) == pytest.approx(1.992, abs=0.005)
    assert model.tokenizer.decode(out.logits[0, -1].argmax()) == " Berlin"
    assert model.chat


def test_a_persona_is_heard_in_what_the_model_would_say(model):
    """Two values, one template: each persona moves its own statements, held less reversed."""
    from sae_training.engine import scoring

    system_personas = hearing.personas(registry.get("values", "schwartz10"), 2).primed
    values = ("power", "conformity")
    items = tuple(item for item in standin().items if item.value in values)
    held = {}
    for value in values:
        asked = [
            question
            for question in voice.voice_questions(
                standin(), model.chat, ("matters",), persona=system_personas[value][0]
            )
            if question.item in items
        ]
        scored = ScoredQuestions.of(asked, model)
        logprobs = scoring.sweep(model, scored.prompts, scored.options).base.double().numpy()
        held[value] = scored.ratings(logprobs)
    of = np.array([item.value for item in items])
    change = held["power"] - held["conformity"]
    assert change[of == "power"].mean() > change[of == "conformity"].mean()
