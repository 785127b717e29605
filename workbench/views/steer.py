"""Steer: turn several features at once, read the model's text with and without, and measure its
values before and after.

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
import importlib.util
import pkgutil
from typing import Any

import pandas as pd
import streamlit as st

from feature_store import queries
from feature_store.errors import BadInput
from feature_store.records import Run, Steering
from workbench import figures
from workbench.figures.style import UNITS, names
from workbench.study import Study
from workbench.views import ChosenRuns, here, missing, run_json, show

SLIDER = {"norm_share": (1.5, 0.3), "feature_max": (4.0, 1.0), "raw": (40.0, 4.0)}
"""Unit -> the slider's end, and where it starts."""
PROMPTS = {"organism": "I locked the doors twice ."}
"""What stands in the prompt box for a model that reads only its own sentences."""


def page() -> None:
    """Controls on the left, texts and profiles on the right."""
    study, chosen = here()
    st.title("Steer")
    if chosen.sae is None:
        missing(study, "sae", "There is no SAE to steer with yet.")
        return
    left, right = st.columns([1, 1.9], gap="large")
    with left:
        steering = _controls(study, chosen)
    with right:
        text, profile = st.tabs(["Text", "Values"])
        with text:
            _texts(study, chosen, steering)
        with profile:
            _values(study, chosen, steering)


def _methods() -> list[str]:
    # By file name: asking the registry would load torch before the page is drawn.
    place = importlib.util.find_spec("workbench.steering.methods").submodule_search_locations
    return sorted(module.name for module in pkgutil.iter_modules(place))


def _controls(study: Study, chosen: ChosenRuns) -> Steering:
    labelled = (
        queries.labelled_features(study.store, chosen.labels.run)
        if chosen.labels is not None
        else pd.DataFrame(columns=["feature"])
    )
    name_of, n = names(study.system), run_json(chosen.sae).get("n_features", 0)
    by_number = {str(r.feature): r for r in labelled.itertuples()}

    def describe(number: str) -> str:
        label = by_number.get(number)
        return (
            f"{name_of[label.value]}, {'held' if label.polarity > 0 else 'rejected'} · {number} ·"
            f" {label.score:.2f}"
            if label
            else f"feature {number}"
        )

    st.subheader("Features")
    best = [str(labelled.loc[labelled.score.idxmax(), "feature"])] if len(labelled) else []
    picked = st.multiselect(
        "Features",
        list(by_number),
        default=best,
        format_func=describe,
        accept_new_options=True,
        placeholder="a value, a label or a number",
        label_visibility="collapsed",
        help="Value, polarity, number, held-out score. Any other feature: type its number.",
    )
    if chosen.labels is None:
        missing(study, "labels", "No feature carries a value yet; type a number.")
    pairs = []
    for number in picked:
        if not number.isdecimal() or int(number) >= n:
            raise BadInput(f"{number!r} is no feature of this SAE. It has features 0 to {n - 1}.")
        polarity = by_number[number].polarity if number in by_number else 1
        pairs.append(
            (
                int(number),
                st.slider(
                    describe(number),
                    -2.0,
                    2.0,
                    float(polarity),
                    0.1,
                    key=f"weight-{number}",
                    help="Weight of its direction; negative turns it round.",
                ),
            )
        )
    st.subheader("How")
    unit = st.selectbox("Unit", list(SLIDER), format_func=UNITS.get)
    strength = st.slider(
        "Strength",
        0.0,
        SLIDER[unit][0],
        SLIDER[unit][1],
        SLIDER[unit][0] / 50,
        key=f"strength-{unit}",
    )
    methods = _methods()
    method = st.selectbox("Method", methods, index=methods.index("add") if "add" in methods else 0)
    return Steering(features=tuple(pairs), method=method, strength=strength, unit=unit)


def _run(study: Study, chosen: ChosenRuns) -> Run:
    return study.runs.get(chosen.sae.run)


def _ready(study: Study, chosen: ChosenRuns) -> Any:
    with st.spinner("Loading the model, once for this app …"):
        study.sae(_run(study, chosen))
        return study.model_of(_run(study, chosen))


def _texts(study: Study, chosen: ChosenRuns, steering: Steering) -> None:
    name = run_json(chosen.sae, "config").get("model", "")
    prompt = st.text_area("Prompt", PROMPTS.get(name, "What matters most to me is"), height=90)
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

    model, run = _ready(study, chosen), _run(study, chosen)
    with st.spinner("Writing; another session that steers is waited for …"):
        for box, one in zip(boxes, (Steering(), steering), strict=True):
            written = ""
            with steer(study, run, one):
                for piece in model.stream(
                    prompt, int(tokens), temperature=temperature, seed=int(seed)
                ):
                    written += piece
                    box.html(
                        '<div class="written" dir="auto"><span'
                        f' class="prompt">{html.escape(prompt)}</span>{html.escape(written)}</div>'
                    )
    st.caption(
        f"{steering.name}, seed {seed}"
        if steering.name != "base"
        else "Nothing is steered: choose a feature."
    )


def _values(study: Study, chosen: ChosenRuns, steering: Steering) -> None:
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
    model = _ready(study, chosen)
    with st.spinner("Measuring; another session that steers is waited for …"):
        bar = st.progress(0.0)
        before = _asked(
            study,
            chosen,
            model,
            Steering(),
            int(contexts),
            int(neutral),
            lambda done: bar.progress(done / 2, "unsteered"),
        )
        after = _asked(
            study,
            chosen,
            model,
            steering,
            int(contexts),
            int(neutral),
            lambda done: bar.progress(0.5 + done / 2, "steered"),
        )
        bar.empty()
    rows = pd.concat([before.profile, after.profile]) if steering.name != "base" else before.profile
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


@dataclasses.dataclass(frozen=True)
class Asked:
    profile: pd.DataFrame
    """Centred profile rows."""
    losses: list[float]
    """Mean next-token loss of each neutral text [nats per token]."""


def _asked(
    study: Study,
    chosen: ChosenRuns,
    model: Any,
    steering: Steering,
    contexts: int,
    neutral: int,
    progress: Any,
) -> Asked:
    import torch

    from workbench import material
    from workbench.measuring.administer import administer
    from workbench.measuring.defaults import (
        SweepAskingSettings,
        default_wordings,
        sweep_questions,
    )
    from workbench.measuring.profiles import per_cluster, profile
    from workbench.measuring.questionnaire import one_scale
    from workbench.steering.apply import respondent, steer

    name = run_json(chosen.sae, "config")["model"]
    wordings = default_wordings(study, "standin", name)
    asking = SweepAskingSettings(wordings=wordings, n_contexts=contexts)
    questions = sweep_questions(study, name, asking)
    texts = material.neutral(material.ORGANISM if name == material.ORGANISM else "", neutral, 0)
    run, instrument = _run(study, chosen), one_scale("standin", study.system)
    responses = administer(
        respondent(study, run, steering),
        instrument,
        questions,
        steering.name,
        lambda stage, done, total: progress(done / total),
    )
    with steer(study, run, steering):
        losses = []
        for ids in model.tokenize(texts):
            row = torch.tensor([ids[: model.context]])
            losses.append(float(model.loss(row, torch.ones_like(row, dtype=torch.bool))[0]))
    rows = [
        dataclasses.asdict(r)
        for r in profile(
            responses, instrument, per_cluster(responses, instrument, study.system), 1000, 0
        )
        if r.centred
    ]
    return Asked(pd.DataFrame(rows), losses)


def _damage(before: list[float], after: list[float]) -> tuple[float, float, float]:
    import numpy as np

    from workbench.statistics.intervals import bootstrap_mean

    found = bootstrap_mean(np.array(after)[:, None] - np.array(before)[:, None], 1000, 0)
    return float(found.mean[0]), float(found.low[0]), float(found.high[0])
