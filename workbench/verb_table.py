"""Every verb of the workbench, declared once: its name, what it does, what it makes and what it
needs.

The command line, `Study`, the documentation and the advice "run this first" are all written from
`VERBS`. What a verb does stands in `workbench/verbs/NAME.py`, which holds the class of its settings
and the function `run`.

Left out: settings. They are the fields of the class, and reading them would import the module and
with it torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from feature_store.errors import NotFound, nearest


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb of the command line, which is a method of `Study` as well."""

    name: str
    """Name on the command line; `workbench/verbs` has a module of that name."""
    summary: str
    """What it does, in one line."""
    makes: str
    """Kind of the runs that it makes."""
    needs: tuple[str, ...] = ()
    """Kinds of runs that it builds on with its default settings."""
    begins: bool = False
    """Whether it may be the first verb of a study, and so make the study's folder."""
    names_system: bool = False
    """Whether `--system` is a setting of its own, and so not the value system of a new study."""
    first: str = ""
    """Setting that may be given by position, before all others; empty: none."""

    @property
    def settings_name(self) -> str:
        """Name of the class of its settings, in its module."""
        return f"{self.name.capitalize()}Settings"


def _table(verbs: Sequence[Verb]) -> dict[str, Verb]:
    return {verb.name: verb for verb in verbs}


VERBS = _table(
    [
        Verb(
            name="survey",
            summary=(
                "Survey a model's layers: where values can be read, and where they can be written."
            ),
            makes="survey",
            begins=True,
        ),
        Verb(
            name="train",
            summary="Train an SAE on a model's residual stream and harvest its features.",
            makes="sae",
            begins=True,
        ),
        Verb(
            name="adopt",
            summary="Take an SAE that exists and harvest its features on texts of yours.",
            makes="sae",
            begins=True,
            first="address",
        ),
        Verb(
            name="label",
            summary="Label the SAE's features by values, with evidence.",
            makes="labels",
            needs=("sae",),
        ),
        Verb(
            name="verdict",
            summary="Accept, reject or change a feature's label, as a person does; or undo that.",
            makes="verdicts",
            needs=("sae",),
            first="verdict",
        ),
        Verb(
            name="describe",
            summary=(
                "Describe all features: tokens they promote, nearest features, features active"
                " together."
            ),
            makes="descriptions",
            needs=("sae",),
        ),
        Verb(
            name="borrow",
            summary=(
                "Borrow what others wrote of the features: Neuronpedia's explanations, feature"
                " exports of SAEDashboard."
            ),
            makes="borrowed",
            needs=("sae",),
            first="source",
        ),
        Verb(
            name="probe",
            summary=(
                "Train a probe of each value at every layer, on pairs of texts that differ in the"
                " value alone."
            ),
            makes="probes",
            needs=("sae",),
            begins=True,
        ),
        Verb(
            name="control",
            summary=(
                "Control a value by ConVA and judge success, fluency and benchmark accuracy, before"
                " and after."
            ),
            makes="control",
            needs=("probes",),
            first="value",
        ),
        Verb(
            name="index",
            summary="Index a folder of images by what they show, so that words find them.",
            makes="images",
            begins=True,
            first="folder",
        ),
        Verb(
            name="hear",
            summary=(
                "Find out which instrument hears a model: personas prime one value at a time, and"
                " its answers should rise."
            ),
            makes="hearing",
            needs=("sae",),
            begins=True,
        ),
        Verb(
            name="measure",
            summary="Measure a model's value profile, steered or not.",
            makes="profile",
            needs=("sae",),
            begins=True,
        ),
        Verb(
            name="contrast",
            summary=(
                "Compare the value profiles of models and steerings, on one or several instruments,"
                " and see whether instruments agree."
            ),
            makes="contrast",
            needs=("sae",),
            begins=True,
        ),
        Verb(
            name="ordinal",
            summary=(
                "Compare models, personas or strengths of a steering by a Bayesian ordinal"
                " regression over their answers."
            ),
            makes="ordinal",
            needs=("profile",),
        ),
        Verb(
            name="effects",
            summary=(
                "Steer labelled features and controls over doses, and measure every value: the "
                "side-effect matrix."
            ),
            makes="effects",
            needs=("labels",),
        ),
        Verb(
            name="score",
            summary=(
                "Score labels by what steering their features does and on contexts that no labeler"
                " saw, method beside method."
            ),
            makes="scores",
            needs=("labels",),
        ),
        Verb(
            name="forecast",
            summary=(
                "Forecast how cleanly each feature will steer, from what is known without steering;"
                " beside two baselines."
            ),
            makes="forecast",
            needs=("effects", "descriptions"),
        ),
        Verb(
            name="graph",
            summary=(
                "The causal graph among values, from a sweep's interventions; beside the planted"
                " one where there is one."
            ),
            makes="graph",
            needs=("effects",),
        ),
        Verb(
            name="predict",
            summary=(
                "Predict joint steerings of several features, groups or directions from single"
                " ones, then measure them."
            ),
            makes="prediction",
            needs=("effects", "graph"),
        ),
        Verb(
            name="compare",
            summary=(
                "Compare steering methods on the same questions, strengths and damage, with prompts"
                " and controls beside them."
            ),
            makes="comparison",
            needs=("labels", "probes"),
        ),
        Verb(
            name="transfer",
            summary=(
                "See whether labels carry over: steer what they chose, and let independent ears"
                " judge what the model writes."
            ),
            makes="transfer",
            needs=("labels",),
        ),
        Verb(
            name="plan",
            summary=(
                "Find the fewest features, groups or directions that give a wanted profile, then"
                " measure them."
            ),
            makes="plan",
            needs=("effects",),
            first="want",
        ),
        Verb(
            name="counterfactual",
            summary=(
                "What the profile would be if some values were set, over the graph that"
                " interventions estimated."
            ),
            makes="counterfactual",
            needs=("graph",),
        ),
        Verb(
            name="couple",
            summary=(
                "Rewrite a language model's answers towards a value profile by counterfactual "
                "reasoning, and score them."
            ),
            makes="couple",
            begins=True,
        ),
        Verb(
            name="kang",
            summary=(
                "Roles and steered features answer for or against values; the graph that PC finds"
                " in their scores, beside its nulls."
            ),
            makes="kang",
            needs=("sae",),
        ),
        Verb(
            name="scenarios",
            summary=(
                "Write scenarios in which values are at stake, with scored actions, and filter"
                " them."
            ),
            makes="scenarios",
            begins=True,
        ),
        Verb(
            name="dilemmas",
            summary=(
                "Write moral dilemmas in steps, each choice between two values, and filter them."
            ),
            makes="dilemmas",
            begins=True,
        ),
        Verb(
            name="review",
            summary="Accept or reject a scenario, as a person does.",
            makes="review",
            needs=("scenarios",),
        ),
        Verb(
            name="decide",
            summary=(
                "Let a model decide in scenarios, steered or not: which values its decisions serve."
            ),
            makes="decisions",
            needs=("scenarios", "sae"),
        ),
        Verb(
            name="adaem",
            summary=(
                "Find questions that tell models, or steered variants of one, apart by their"
                " values; a new instrument (AdAEM)."
            ),
            makes="adaem",
            needs=("labels",),
            begins=True,
        ),
        Verb(
            name="neurons",
            summary=(
                "Find the neurons, or SAE features, that tell a value from its reverse; edit them,"
                " and measure every value beside a control."
            ),
            makes="neurons",
            needs=("sae",),
            begins=True,
            names_system=True,
        ),
    ]
)
"""Name -> verb, in the order in which a study uses them."""


def verb_named(name: str) -> Verb:
    """Give the verb of that name. Raises NotFound with the nearest one."""
    if name not in VERBS:
        raise NotFound(f"There is no verb {name!r}.{nearest(name, VERBS)}")
    return VERBS[name]


def makers(kind: str) -> list[str]:
    """List the verbs that make runs of a kind, the usual one first."""
    return [verb.name for verb in VERBS.values() if verb.makes == kind]
