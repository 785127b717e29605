"""The verbs of a study, one module each: a frozen configuration, and a function from it to a run.

A module is imported when its verb is used, so that `workbench runs` does not load torch.
"""

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from feature_store.errors import NotFound, nearest
from feature_store.progress import Progress
from feature_store.records import Run

if TYPE_CHECKING:
    from workbench.study import Study

SUMMARIES = {
    "train": "Train an SAE on a model's residual stream and harvest its features.",
    "adopt": "Take an SAE that exists and harvest its features on texts of yours.",
    "label": "Label the SAE's features by values, with evidence.",
    "probe": "Train a probe of each value at every layer, on pairs of texts that differ in the value alone.",
    "control": "Control a value by ConVA and judge success, fluency and benchmark accuracy, before and after.",
    "index": "Index a folder of images by what they show, so that words find them.",
    "measure": "Measure a model's value profile, steered or not.",
    "contrast": "Compare the value profiles of models and steerings, on one or several instruments, and see whether instruments agree.",
    "ordinal": "Compare models, personas or strengths of a steering by a Bayesian ordinal regression over their answers.",
    "effects": "Steer labelled features and controls over doses, and measure every value: the side-effect matrix.",
    "graph": "The causal graph among values, from a sweep's interventions; beside the planted one where there is one.",
    "predict": "Predict joint steerings of several features from single ones, then measure them.",
    "compare": "Compare steering methods on the same questions, strengths and damage, with prompts and controls beside them.",
    "plan": "Find the fewest features and strengths that give a wanted profile, then measure them.",
    "counterfactual": "What the profile would be if some values were set, over the graph that interventions estimated.",
    "couple": "Rewrite a language model's answers towards a value profile by counterfactual reasoning, and score them.",
    "kang": "Roles and steered features answer for or against values; the graph that PC finds in their scores, beside its nulls.",
    "scenarios": "Write scenarios in which values are at stake, with scored actions, and filter them.",
    "dilemmas": "Write moral dilemmas in steps, each choice between two values, and filter them.",
    "review": "Accept or reject a scenario, as a person does.",
    "decide": "Let a model decide in scenarios, steered or not: which values its decisions serve.",
    "adaem": "Find questions that tell models, or steered variants of one, apart by their values; a new instrument (AdAEM).",
    "neurons": "Find the neurons, or SAE features, that tell a value from its reverse; edit them, and measure every value beside a control.",
}
"""Verb -> what it does, in one line."""


class Function(Protocol):
    def __call__(self, study: "Study", config: Any, progress: Progress) -> Run: ...


class Verb(NamedTuple):
    config: type
    """Frozen dataclass: the verb's flags, job-file table and `run.json`."""
    run: Function
    """Does the work, or returns the finished run of the same work."""


def get(name: str) -> Verb:
    """The verb of that name. Raises NotFound with the nearest one."""
    if name not in SUMMARIES:
        raise NotFound(f"There is no verb {name!r}.{nearest(name, SUMMARIES)}")
    module = importlib.import_module(f"workbench.verbs.{name}")
    assert dataclasses.is_dataclass(module.Config)
    return Verb(module.Config, module.run)
