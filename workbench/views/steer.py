"""Steer: turn several features at once, read what the model writes with and without it, and measure
its values before and after.

1. Features are chosen by value and label, or by number; each has a weight, all share one strength,
   unit and method.
2. `Write` streams the default and the steered continuation side by side.
3. `Measure` asks the questionnaire unsteered and steered under the same contexts, and reads the
   damage on neutral text.

The model is loaded when it is first needed, once for all sessions; while one session steers it, the
others wait.
"""

import dataclasses
import html
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from feature_store import queries, registry
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, Steering, Unit
from workbench import figures
from workbench.figures.style import UNITS, names, side
from workbench.study import Study
from workbench.views import ChosenRuns, here, missing, run_json, safe, show

if TYPE_CHECKING:  # torch is loaded when the model first works
    from sae_training.engine.model import Model

SLIDER: dict[Unit, tuple[float, float]] = {
    "norm_share": (1.5, 0.3),
    "feature_max": (4.0, 1.0),
    "raw": (40.0, 4.0),
}
"""Unit -> the slider's end, and where it starts."""
PROMPTS = {"organism": "I locked the doors twice ."}
"""What stands in the prompt box for a model that reads only its own sentences."""


def page() -> None:
    """Show the controls on the left, texts and profiles on the right."""
    study, chosen = here()
    st.title("Steer")
    if chosen.sae is None:
        missing(study, "sae", "There is no SAE to steer with yet.")
        return
    if study.published is not None:
        st.info(safe(study.weightless(study.runs.get(chosen.sae.run))))
        return
    left, right = st.columns([1, 1.9], gap="large")
    with left:
        steering = _controls(study, chosen)
    with right:
        run = study.resolve("sae", chosen.sae.run)
        text, profile = st.tabs(["Text", "Values"])
        with text:
            _texts(study, run, steering)
        with profile:
            _values(study, run, steering)


def _controls(study: Study, chosen: ChosenRuns) -> Steering:
    """Let the user choose features, their weights, and how far they are turned."""
    st.subheader("Features")
    labelled = pd.DataFrame(columns=["feature", "value", "polarity", "part", "score"])
    if chosen.labels is not None:
        labelled = queries.labelled_features(study.store, chosen.labels.run)
    labels = {str(row.feature): row for row in labelled.itertuples()}
    best = []
    if len(labelled):
        # What writes its value moves the text; what only reads it may not.
        read = labelled.score.fillna(labelled.effect)
        by = labelled.output if labelled.output.notna().any() else read
        best = [str(labelled.loc[by.idxmax(), "feature"])]
    name_of = names(study.system)

    def describe(number: str) -> str:
        """Write a feature for the list: value, polarity, number and held-out score, if any."""
        if number not in labels:
            return f"feature {number}"
        label = labels[number]
        score = "" if pd.isna(label.score) else f" · {label.score:.2f}"
        return f"{name_of[label.value]}, {side(label)} · {number}{score}"

    picked = st.multiselect(
        "Features",
        list(labels),
        default=best,
        format_func=describe,
        accept_new_options=True,
        placeholder="a value, a label or a number",
        label_visibility="collapsed",
        help="Value, polarity, number, held-out score. Any other feature: type its number.",
    )
    if chosen.labels is None:
        missing(study, "labels", "No feature carries a value yet; type a number.")
    n = run_json(chosen.sae).get("n_features", 0)
    pairs = []
    for number in picked:
        if not number.isdecimal() or int(number) >= n:
            raise BadInput(f"{number!r} is no feature of this SAE. It has features 0 to {n - 1}.")
        weight = st.slider(
            describe(number),
            -2.0,
            2.0,
            float(labels[number].polarity if number in labels else 1),
            0.1,
            key=f"weight-{number}",
            help="Weight of its direction; negative turns it round.",
        )
        pairs.append((int(number), weight))
    unit, strength, method = _how()
    return Steering(features=tuple(pairs), method=method, strength=strength, unit=unit)


def _how() -> tuple[Unit, float, str]:
    """Let the user choose the unit, the strength in it, and the steering method."""
    st.subheader("How")
    unit = st.selectbox("Unit", list(SLIDER), format_func=UNITS.__getitem__)
    end, start = SLIDER[unit]
    strength = st.slider("Strength", 0.0, end, start, end / 50, key=f"strength-{unit}")
    methods = registry.names("steerings")
    method = st.selectbox("Method", methods, index=methods.index("add") if "add" in methods else 0)
    return unit, strength, method


def _ready(study: Study, run: Run) -> "Model":
    """Load the model and the SAE of a run, unless a session has loaded them before."""
    with st.spinner("Loading the model, once for this app …"):
        study.sae(run)
        return study.model_of(run)


def _texts(study: Study, run: Run, steering: Steering) -> None:
    """Write a continuation unsteered and steered, when asked to."""
    model_name = run.config.get("model", "")
    prompt = st.text_area(
        "Prompt", PROMPTS.get(model_name, "What matters most to me is"), height=90
    )
    a, b, c, d = st.columns([1, 1, 1, 1.2], vertical_alignment="bottom")
    tokens = a.number_input("New tokens", 1, 512, 40)
    temperature = b.number_input(
        "Temperature", 0.0, 2.0, 0.0, 0.1, help="0: always the most likely token."
    )
    seed = c.number_input("Seed", 0, 2**31 - 1, 0)
    go = d.button("Write", type="primary", icon=":material/edit:", width="stretch", key="write")
    left, right = st.columns(2)
    left.markdown("**Default**")
    right.markdown("**Steered**")
    boxes = left.empty(), right.empty()
    for box in boxes:
        box.html('<div class="written"></div>')
    if not go:
        return
    from workbench.steering.apply import steer

    model, texts = _ready(study, run), []
    with st.spinner("Writing; another session that steers is waited for …"):
        for box, state in zip(boxes, (Steering(), steering), strict=True):
            written = ""
            with steer(study, run, state):
                for piece in model.stream(
                    prompt, int(tokens), temperature=temperature, seed=int(seed)
                ):
                    written += piece
                    box.html(
                        '<div class="written" dir="auto"><span'
                        f' class="prompt">{html.escape(prompt)}</span>{html.escape(written)}</div>'
                    )
            texts.append(written)
    if steering.name != "base" and texts[0] == texts[1]:
        st.info("No token differs: so far, this steering changes nothing of what is written here.")
    st.caption(
        f"{steering.name}, seed {seed}"
        if steering.name != "base"
        else "Nothing is steered: choose a feature."
    )


def _values(study: Study, run: Run, steering: Steering) -> None:
    """Measure the profile unsteered and steered when asked to, and the damage of the steering."""
    a, b, c = st.columns([1, 1, 1.2], vertical_alignment="bottom")
    contexts = a.number_input(
        "Contexts", 4, 96, 12, help="Prompt contexts, the clusters of every interval."
    )
    neutral = b.number_input("Neutral texts", 4, 64, 16, help="Texts on which the damage is read.")
    if not c.button(
        "Measure", type="primary", icon=":material/monitoring:", width="stretch", key="measure"
    ):
        st.caption(
            "Asks the stand-in questionnaire under each context, unsteered and steered, by"
            " log-probability. No run is kept; `workbench measure` keeps one."
        )
        return
    _ready(study, run)
    with st.spinner("Measuring; another session that steers is waited for …"):
        bar = st.progress(0.0)
        trial = _Trial(
            study=study,
            sae_run=run,
            contexts=int(contexts),
            neutral=int(neutral),
        )
        before = trial.measure(Steering(), _half_of(bar, 0.0, "unsteered"))
        after = trial.measure(steering, _half_of(bar, 0.5, "steered"))
        bar.empty()
    rows = before.profile
    if steering.name != "base":
        rows = pd.concat([before.profile, after.profile])
    show(figures.profile_rows(rows, study.system), "before-after")
    damage, low, high = _damage(before.losses, after.losses)
    a, b = st.columns([1, 2])
    a.metric(
        "Damage",
        f"{damage:+.3f}",
        help="Rise of the mean next-token loss on neutral text [nats per token].",
    )
    b.metric(
        "95 % interval",
        f"{low:+.3f} … {high:+.3f}",
        help=f"Bootstrapped over {neutral} neutral texts.",
    )
    st.caption(
        f"{steering.name}; centred on the mean of all items; bars: 95 % interval, bootstrapped over"
        f" {contexts} contexts, seed 0."
    )


def _half_of(bar: DeltaGenerator, start: float, text: str) -> Progress:
    """Show progress on half of a bar, from `start` [0 to 1] on."""

    def show_progress(stage: str, done: int, total: int) -> None:
        """Move the bar."""
        bar.progress(start + done / total / 2, text)

    return show_progress


@dataclasses.dataclass(frozen=True)
class TrialReading:
    """What one steering gave."""

    profile: pd.DataFrame
    """Centred rows of the profile, one a value."""
    losses: list[float]
    """Mean next-token loss of each neutral text [nats per token]."""


@dataclasses.dataclass(frozen=True)
class _Trial:
    """Measures a model's profile under one steering after another, without keeping a run."""

    study: Study
    sae_run: Run
    """Run of the SAE whose features are turned."""
    contexts: int
    """Prompt contexts in which every item is asked."""
    neutral: int
    """Neutral texts on which the loss is read."""

    def measure(self, steering: Steering, progress: Progress) -> TrialReading:
        """Ask the stand-in questionnaire and read the loss on neutral texts under a steering."""
        from workbench.measuring.administer import Elicitation, administer
        from workbench.measuring.defaults import (
            BY_SYSTEM,
            SweepAskingSettings,
            default_wordings,
            sweep_questions,
        )
        from workbench.measuring.heard import mode_for
        from workbench.measuring.profiles import per_cluster, profile
        from workbench.measuring.questionnaire import one_scale
        from workbench.steering.apply import respondent

        study, model_name = self.study, self.sae_run.config["model"]
        name = BY_SYSTEM.get(study.system_id, "standin")
        instrument = one_scale(name, study.system)
        mode = mode_for(study, "auto", model_name, name)
        wordings = () if mode == "voice" else default_wordings(study, name, model_name)
        asking = SweepAskingSettings(instrument=name, wordings=wordings, n_contexts=self.contexts)
        questions = sweep_questions(study, model_name, asking)
        responses = administer(
            respondent(study, self.sae_run, steering),
            instrument,
            questions,
            steering.name,
            progress,
            Elicitation(mode=mode),
        )
        clusters = per_cluster(responses, instrument, study.system)
        rows = profile(responses, instrument, clusters, 1000, 0)
        centred = [dataclasses.asdict(row) for row in rows if row.centred]
        return TrialReading(profile=pd.DataFrame(centred), losses=self._losses(steering))

    def _losses(self, steering: Steering) -> list[float]:
        """Read the mean next-token loss of each neutral text under a steering."""
        import torch

        from workbench import material
        from workbench.steering.apply import steer

        source = material.default_source(self.sae_run.config["model"])
        texts = material.neutral(source, self.neutral, 0)
        losses = []
        with steer(self.study, self.sae_run, steering) as model:
            for ids in model.tokenize(texts):
                row = torch.tensor([ids[: model.context]])
                counted = torch.ones_like(row, dtype=torch.bool)
                losses.append(float(model.loss(row, counted)[0]))
        return losses


def _damage(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """Bootstrap the rise of the mean loss over texts: mean and ends of the 95 % interval."""
    import numpy as np

    from workbench.statistics.intervals import bootstrap_mean

    rise = bootstrap_mean(np.array(after)[:, None] - np.array(before)[:, None], 1000, 0)
    return float(rise.mean[0]), float(rise.low[0]), float(rise.high[0])
