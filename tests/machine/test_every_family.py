"""Every causal family of transformers that can be built small is right, or refused by name."""

import pytest

from benchmarks._small_families import built, names
from benchmarks.families import outcome
from sae_training.engine.model import Model
from sae_training.model import families

pytestmark = pytest.mark.slow_file

REFUSED = {
    "blt",
    "cpmant",
    "deepseek_v4",
    "gemma3n_text",
    "hrm_text",
    "hy_v4",
    "longcat_flash",
    "mllama",
    "prophetnet",
    "qwen4_exp",
    "qwen4_exp_text",
    "reformer",
    "xlm",
    "xlnet",
}
"""Families that the workbench does not read: several streams, layers that run in turns."""
NOT_BUILT = {
    "gemma3n",
    "gemma4_assistant",
    "gemma4_unified_assistant",
    "musicgen",
    "musicgen_melody",
}
"""Families that transformers does not build from a configuration alone."""


@pytest.mark.parametrize("family", names())
def test_a_family_is_right_or_refused(family):
    result = outcome(family)
    expected = "refused" if family in REFUSED else "right"
    assert result.verdict == ("not built" if family in NOT_BUILT else expected), result.line
    assert result.line.isprintable()


def test_the_families_that_read_padding_are_listed(monkeypatch):
    """In float32, what is measured and what is listed are the same."""
    measured, listed = set(), families.PADDING_READERS
    monkeypatch.setattr(families, "PADDING_READERS", frozenset())
    for family in names():
        if family in REFUSED | NOT_BUILT:
            continue
        model = Model(built(family), None, family)
        if model.padding_read:
            measured.add(model.module.config.get_text_config().model_type)
            assert model.padding_read == {"left"}
    assert measured == listed
