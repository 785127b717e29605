"""Overview: what this study is, the model's values, the headline effects, and every run."""

import json
import shlex
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from feature_store import queries, records
from workbench import figures
from workbench.figures.style import names
from workbench.study import Study
from workbench.verb_table import makers
from workbench.views import ChosenRuns, headlines, here, missing, number, run_json, safe, show
from workbench.views.shared import about_ratings, starred

METRICS = (
    (
        "fvu",
        "FVU",
        "{:.4f}",
        "Share of the residual's variance that the SAE does not explain, on held-out text.",
    ),
    ("l0", "L0", "{:.1f}", "Features active on a token, mean over held-out text."),
    ("dead_share", "Dead", "{:.1%}", "Share of features that never fire."),
    (
        "loss_recovered",
        "CE recovered",
        "{:.1%}",
        (
            "Share of the model's loss that survives when the SAE's reconstruction replaces the"
            " residual (1 is all of it)."
        ),
    ),
)
"""Key of an SAE's summary, its name, how it is written, and what it is."""


def page() -> None:
    """Show what the study has found so far, and every run."""
    study, chosen = here()
    st.title(safe(study.folder.name))
    _headlines(study, chosen)
    if chosen.sae is None:
        st.caption("A study of human values in a language model")
        missing(study, "sae", "This study has no sparse autoencoder yet.")
    else:
        _sae(study, chosen.sae, chosen.labels)
    left, right = st.columns([1, 1.08], gap="large")
    with left:
        _profile(study, chosen)
    with right:
        _matrix(study, chosen)
    _labels(study, chosen)
    _survey(study, chosen)
    _runs(study)


def _headlines(study: Study, chosen: ChosenRuns) -> None:
    """Say in three sentences what was found, each a link to its evidence."""
    name_of, lines = names(study.system), []
    if chosen.profile is not None:
        rows = queries.profile(study.store, chosen.profile.run)
        voiced = run_json(chosen.profile, "config").get("mode") == "voice"
        unit = "nats a token" if voiced else "rating points"
        base = rows[rows.steering == "base"]
        lines.append(headlines.about_profile(base, run_json(chosen.profile), name_of, unit))
    if chosen.labels is not None:
        sweep = chosen.effects
        cells = None if sweep is None else queries.matrix(study.store, sweep.run)
        heard = run_json(chosen.effects).get("heard", "yes")
        lines.append(headlines.about_effects(run_json(chosen.labels), cells, name_of, heard))
    if chosen.graph is not None:
        edges = queries.edges(study.store, chosen.graph.run)
        n = int(run_json(chosen.graph).get("contexts", 0))
        lines.append(headlines.about_graph(edges, name_of, n))
    if lines:
        st.html(headlines.as_html(lines))


def _sae(study: Study, sae: pd.Series, labels_run: pd.Series | None) -> None:
    summary, config, labels = run_json(sae), run_json(sae, "config"), run_json(labels_run)
    model = str(config.get("model", "?")).rstrip("/").split("/")[-1]
    side = "after" if summary.get("point") == "resid_post" else "before"
    st.caption(
        f"{safe(model)} · residual stream {side} layer"
        f" {summary.get('layer', '?')} · {summary.get('n_features', '?')} features ·"
        f" {safe(sae.run)} · seed {sae.seed}"
    )
    cells = st.columns(len(METRICS) + 2)
    for cell, (key, name, form, text) in zip(cells, METRICS, strict=False):
        figure = summary.get(key)
        cell.metric(name, "–" if figure is None else form.format(figure), help=text)
    if "fvu_usual" in summary:
        st.caption(
            "A few tokens, many times as long as the others, hold most of the variance. Without the"
            f" longest hundredth FVU is {summary['fvu_usual']:.4f}."
        )
    cells[-2].metric(
        "Labelled", labels.get("features_labelled", "–"), help="Features with an accepted label."
    )
    cells[-1].metric(
        "Values",
        f"{labels['values_labelled']} of {len(study.system.ids)}" if labels else "–",
        help="Values that have a feature.",
    )


def _profile(study: Study, chosen: ChosenRuns) -> None:
    st.subheader("Value profile")
    if chosen.profile is None:
        missing(study, "profile", "The model's values have not been measured.")
        return
    rows = queries.profile(study.store, chosen.profile.run)
    base = rows[rows.steering == "base"]
    show(figures.circumplex(base, study.system), "profile")
    st.caption(
        "Rating above or below the mean of all items (MRAT-centred, points on the scale). Bars: 95"
        f" % interval, bootstrapped over {base.n.max()} contexts, seed {chosen.profile.seed}."
        f" {base.parsed.sum():,} answers, {base.missing.sum():,} refused or unread."
    )
    about_ratings(chosen.profile)


def _matrix(study: Study, chosen: ChosenRuns) -> None:
    st.subheader("Side effects of steering")
    if chosen.effects is None:
        missing(study, "effects", "Nothing has been steered yet.")
        return
    cells = starred(queries.matrix(study.store, chosen.effects.run), chosen.effects)
    show(figures.effect_matrix(cells, study.system, height=470, small=True), "matrix")
    off = cells[cells.source != cells.target]
    st.caption(
        "Row steered, column measured: orange rises, blue falls, grey is inside the null band of"
        f" random features and directions. {int((off.q < 0.05).sum())} of {len(off)} side effects"
        f" have q < 0.05; {cells.n.max()} contexts, seed {chosen.effects.seed}."
    )
    about_ratings(chosen.effects)


def _labels(study: Study, chosen: ChosenRuns) -> None:
    st.subheader("Labelled features")
    if chosen.labels is None:
        missing(study, "labels", "No feature carries a value yet.")
        return
    labelled = queries.labelled_by_value(study.store, chosen.labels.run).set_index("value")
    hue, summary = figures.colours(study.system), run_json(chosen.labels)
    chips = [
        f'<span class="chip" style="background:{hue[v.id]}">{v.name}'
        f" <b>{labelled.features.get(v.id, 0)}</b></span>"
        for v in study.system.values
    ]
    st.html("".join(chips))
    st.caption(
        "Accepted features of each value. Median held-out score"
        f" {number(summary.get('median_held_out_score'))} (area under the ROC curve,"
        f" 0.5 is chance), {summary.get('texts', 0):,} labelled texts, seed {chosen.labels.seed}."
    )


def _survey(study: Study, chosen: ChosenRuns) -> None:
    """Show where values are read and written in the SAE's model, where that was surveyed."""
    model = run_json(chosen.sae, "inputs").get("model", "")
    role = "model" if model else ""
    surveys = queries.candidates(study.store, "survey", role, model)
    if surveys.empty:
        return
    run = surveys.iloc[0]
    st.subheader("Where values are read and written")
    reading = queries.survey_reading(study.store, run.run)
    writing = queries.survey_writing(study.store, run.run)
    show(figures.survey_layers(reading, writing, study.system), "survey")
    summary = run_json(run)
    st.caption(
        f"Advised: layer {summary['layer']} ({safe(summary['reason'])}). Above: how well a linear"
        " probe tells texts with a value from others of their context, on contexts that it has not"
        f" seen; best at layer {_peak(reading, 'auroc')}. Below: change of a value's rating less"
        " that of the others, steered along its difference of means, layers at equal damage"
        f" ({summary['damage']:g} nats per token); largest at layer {_peak(writing, 'effect')}."
        " Grey: 97.5 % of permuted marks, and of random directions."
        f" {summary['texts']:,} texts, {number(writing.n.max() if len(writing) else None)}"
        f" contexts, seed {run.seed}."
    )


def _peak(rows: pd.DataFrame, column: str) -> str:
    """Name the layer at which the mean over values is largest; "none" without rows."""
    mean = rows[rows.value == "all"]
    return "none" if mean.empty else str(mean.layer[mean[column].idxmax()])


def _runs(study: Study) -> None:
    st.subheader("Runs")
    begun = study.runs.unfinished()
    finished = queries.runs(study.store)
    # One that finishes between the two looks is in both lists.
    unfinished = [run for run in begun if run.id not in set(finished.run)]
    table = pd.concat([_unfinished(unfinished), _finished(finished)])
    if table.empty:
        st.caption("No run yet.")
        return
    for run in unfinished:
        if run.status == "running":
            st.info(f"`{run.id}` is being made.", icon=":material/progress_activity:")
            continue
        command = f"workbench {makers(run.kind)[0]} {shlex.quote(str(study.folder))}"
        st.warning(
            f"`{run.id}` was interrupted. `{command}` with the same settings resumes it.",
            icon=":material/pause_circle:",
        )
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "started": st.column_config.DatetimeColumn("started (UTC)", format="D MMM YYYY HH:mm"),
            "minutes": st.column_config.NumberColumn(format="%.1f"),
            "figures": st.column_config.TextColumn(width="large"),
        },
    )


def _unfinished(runs: Sequence[records.Run]) -> pd.DataFrame:
    """One row a run that is not finished."""
    rows = [
        {
            "run": run.id,
            "status": run.status,
            "started": pd.Timestamp(run.created).tz_localize(None),
            "minutes": run.seconds / 60,
            "seed": run.seed,
            "figures": "",
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def _finished(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a finished run."""
    return pd.DataFrame(
        {
            "run": runs.run,
            "status": runs.status,
            "started": runs.created,
            "minutes": runs.seconds / 60,
            "seed": runs.seed,
            "figures": [records.figures(json.loads(summary)) for summary in runs.summary],
        }
    )
