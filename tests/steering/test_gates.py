"""A closed gate leaves logits bit-identical; an open one changes nothing about the steering
behind it."""

import numpy as np
import pytest
import torch

from feature_store.errors import BadInput
from feature_store.records import Label, Site
from sae_training.engine.gates import ActivationGate, ProbeGate, PromptGate, gated_scores, spread
from sae_training.engine.scoring import sweep
from sae_training.model.edits import Add, by_prompt
from sae_training.model.last_token import last_residuals
from tests.helpers.small_models import WIDTH, TinySAE, model
from workbench.steering.directions import Probe
from workbench.steering.gates import gate
from workbench.steering.gates.feature import _most_specific
from workbench.study import Study
from workbench.systems.conva.shift import minimum_shift

MODEL = model()
PROMPTS = ["the cat sat on the mat", "the dog ran to the end", "the garden and then the mat ran"]
OPTIONS = [" the", " dog"]
ADD = Add(torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0)) * 2, ("all",))
PROBE = Probe(
    torch.randn(WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.3, 0.1
)
SHIFT = minimum_shift(PROBE, [0.97])
SAE = TinySAE()


def batch():
    rows = MODEL.tokenize(PROMPTS)
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return ids, torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])


def logits(edit=None):
    if edit is None:
        return MODEL.logits(*batch())
    with MODEL.steered(edit, Site(1)):
        return MODEL.logits(*batch())


@pytest.mark.parametrize("inner", [ADD, SHIFT], ids=["add", "conva"])
def test_closed_gates_are_bit_identical_and_open_ones_transparent(inner):
    base, steered = logits(), logits(inner)
    assert not torch.equal(base, steered)
    closed = torch.zeros(3, dtype=torch.bool)
    for shut, wide in (
        (PromptGate(spread(inner, 3), closed), PromptGate(spread(inner, 3), ~closed)),
        (
            ProbeGate(edit=inner, weight=PROBE.weight, bias=PROBE.bias, threshold=1.1),
            ProbeGate(edit=inner, weight=PROBE.weight, bias=PROBE.bias, threshold=0.0),
        ),
        (
            ActivationGate(edit=inner, sae=SAE, feature=3, threshold=1e9),
            ActivationGate(edit=inner, sae=SAE, feature=3, threshold=-1.0),
        ),
    ):
        assert torch.equal(logits(shut), base), type(shut).__name__
        torch.testing.assert_close(logits(wide), steered, atol=1e-5, rtol=1e-5)
        with MODEL.steered(shut, Site(1)):
            texts = MODEL.generate(PROMPTS, 6)
        assert texts == MODEL.generate(PROMPTS, 6)
    assert torch.equal(logits(), base)


def test_each_prompt_has_its_own_gate():
    open = torch.tensor([True, False, True])
    base, steered, gated = logits(), logits(ADD), logits(PromptGate(spread(ADD, 3), open))
    assert torch.equal(gated[1], base[1])
    torch.testing.assert_close(gated[[0, 2]], steered[[0, 2]])
    both = PromptGate(PromptGate(spread(SHIFT, 3), open), ~open)
    assert by_prompt(both)
    assert torch.equal(logits(both), base), "two gates that are never open together"
    with pytest.raises(BadInput, match="one intervention a prompt"):
        spread(Add(torch.zeros(2, WIDTH), ("all", "all")), 3)


def test_a_probe_decides_at_the_last_token_in_a_sweep_too():
    residuals = last_residuals(MODEL, MODEL.tokenize(PROMPTS), [1])[:, 0]
    said = torch.sigmoid(residuals @ PROBE.weight + PROBE.bias)
    threshold = float(said.sort().values[1:].mean())  # one prompt opens, or two
    told = sweep(
        MODEL,
        PROMPTS,
        OPTIONS,
        ProbeGate(edit=ADD, weight=PROBE.weight, bias=PROBE.bias, threshold=threshold),
        Site(1),
    )
    plain = sweep(MODEL, PROMPTS, OPTIONS, ADD, Site(1))
    opens = said >= threshold
    assert 0 < opens.sum() < 3
    assert torch.equal(told.steered[0, ~opens], told.base[~opens])
    torch.testing.assert_close(
        told.steered[0, opens], plain.steered[0, opens], atol=1e-5, rtol=1e-4
    )


def test_a_sweep_is_gated_prompt_by_prompt():
    open = torch.tensor([False, True, False])
    told = gated_scores(sweep(MODEL, PROMPTS, OPTIONS, ADD, Site(1)), open)
    assert torch.equal(told.steered[0, ~open], told.base[~open])
    with MODEL.steered(PromptGate(spread(ADD, 3), open), Site(1)):
        torch.testing.assert_close(
            told.steered[0], MODEL.score(PROMPTS, OPTIONS), atol=1e-5, rtol=1e-4
        )


def test_a_feature_gates_token_by_token():
    hidden = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(5))
    where = torch.ones(2, 7, dtype=torch.bool)
    where[:, 0] = False
    fires = SAE.encode(hidden)[..., 4] > 0.5
    assert 0 < (fires & where).sum() < where.sum()
    out = ActivationGate(edit=ADD, sae=SAE, feature=4, threshold=0.5)(hidden, where)
    assert torch.equal(out[~(fires & where)], hidden[~(fires & where)])
    torch.testing.assert_close(out[fires & where], (hidden + ADD.vectors[0])[fires & where])
    with pytest.raises(BadInput, match="features 0 to 39"):
        ActivationGate(edit=ADD, sae=SAE, feature=40)


class Half:
    """Scores the first half of the texts 0.9, the others 0.1."""

    name = "half"

    def scores(self, texts):
        return np.where(np.arange(len(texts)) < len(texts) // 2, 0.9, 0.1)


def test_a_threshold_opens_from_its_score_on():
    told = gate(Half(), ["a"] * 4, 0.9)
    assert told.open.tolist() == [True, True, False, False]
    assert gate(Half(), ["a"] * 4, 0.0).open.all()
    assert not gate(Half(), ["a"] * 4, 1.1).open.any()


def test_a_feature_without_a_held_out_gain_is_chosen_by_its_effect(tmp_path):
    study = Study(tmp_path / "study")
    with study.runs.begin("sae", {"model": "organism"}, {}, 0) as work:
        sae = work.finish({"n_features": 9})

    def label(labeler, gain, effects):
        rows = [
            Label(
                feature=feature,
                value="power",
                polarity=1,
                part="topic",
                effect=effect,
                low=np.nan,
                high=np.nan,
                p=0.001,
                q=0.01,
                score=np.nan,
                gain=gain,
                n=10,
                method=labeler,
                accepted=True,
                evidence="{}",
            )
            for feature, effect in effects.items()
        ]
        with study.runs.begin("labels", {"labeler": labeler}, {"sae": sae.id}, 0) as work:
            work.table("labels", rows, sort=("feature", "value"))
            work.finish({"texts": 0})

    label("lexicon", np.nan, {1: 3.0, 4: 9.0, 7: 5.0})
    assert _most_specific(study, sae, "power") == 4
    label("contrast", 0.5, {8: 1.0, 6: 0.5})
    assert _most_specific(study, sae, "power") == 6, "a held-out gain goes before none"
