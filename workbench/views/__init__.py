"""The pages of the app, one file or folder each; here is what they share.

1. `open_study` gives the study that all sessions share, `choose` picks its runs in the sidebar
   (newest first, each built on the one above it), and `enter` runs a page.
2. A user's mistake is one line on the page. Where a verb has not run yet, one line says which
   command to type.
3. Text that comes from a corpus or a model passes through `safe` (Markdown) or `html.escape`
   (HTML): it is shown, never run.

Left out: anything a page does; those stand in their files and ask the store through
`feature_store/queries`.
"""

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import pandas as pd
import streamlit as st

from feature_store import queries
from feature_store.errors import WorkbenchError
from feature_store.terminal import visible
from workbench import study_file
from workbench.study import Study
from workbench.verb_table import makers

STYLE = """<style>
.block-container {padding-top: 3.2rem; padding-bottom: 4rem; max-width: 1500px;}
h1 {font-size: 2rem !important; padding-bottom: .15rem !important;}
h2 {font-size: 1.35rem !important;}
h3 {font-size: 1.08rem !important; padding-bottom: .2rem !important;}
[data-testid="stMetricValue"] {font-size: 1.45rem;}
[data-testid="stMetricLabel"] {color: #6b7580;}
.chip {
  display: inline-block; padding: .08rem .6rem; border-radius: 1rem; color: white;
  font-size: .86rem; margin: 0 .3rem .25rem 0; white-space: nowrap;
}
.context {
  padding: .42rem .2rem; border-bottom: 1px solid #eef0f2; line-height: 1.75; font-size: .95rem;
  overflow-wrap: anywhere;
}
.context .said {
  font-variant-numeric: tabular-nums; color: #6b7580; font-size: .8rem; margin-inline-end: .7rem;
}
.context .token {
  white-space: pre-wrap; box-decoration-break: clone; -webkit-box-decoration-break: clone;
  border-radius: 3px; padding: .08rem 0;
}
.context .peak {outline: 1.5px solid #c4561a; outline-offset: 0;}
.tokens {display: flex; flex-wrap: wrap; gap: .3rem .45rem; margin: .1rem 0 .5rem;}
.tokens span {
  white-space: pre-wrap; overflow-wrap: anywhere; background: #f1f3f5; border-radius: 4px;
  padding: .05rem .4rem; font-size: .9rem;
}
.tokens small {color: #6b7580; font-variant-numeric: tabular-nums; margin-inline-start: .35rem;}
.related {padding: .2rem 0; border-bottom: 1px solid #eef0f2; font-size: .92rem;}
.related a {font-variant-numeric: tabular-nums;}
.related small {color: #6b7580; font-variant-numeric: tabular-nums; margin: 0 .5rem;}
.written {
  white-space: pre-wrap; overflow-wrap: anywhere; min-height: 7rem; padding: .9rem 1rem;
  border: 1px solid #e6e9ed; border-radius: 8px; background: #fbfbfc; line-height: 1.6;
}
.written .prompt {color: #8b949e;}
.headline {font-size: 1.08rem; line-height: 1.55; margin: 0 0 .45rem;}
.headline a {color: inherit; text-decoration: underline; text-decoration-color: #b9c2cc;
  text-underline-offset: .2rem;}
.headline a:hover, .headline a:focus {text-decoration-color: #1f6aa5;}
.facts {display: flex; flex-wrap: wrap; gap: .2rem 1.8rem; margin: .1rem 0 .4rem;}
.facts span {color: #6b7580; font-size: .86rem; display: block;}
.facts b {font-weight: 400; font-size: 1.2rem; font-variant-numeric: tabular-nums;}
</style>"""
"""What our own HTML looks like, and a few sizes of Streamlit's."""
ABSENT = {
    "sae": "There is no SAE yet.",
    "labels": "No feature carries a value yet.",
    "effects": "Nothing has been steered yet.",
    "comparison": "No methods have been compared yet.",
    "graph": "No graph has been inferred yet.",
}
"""Kind of run -> what a page says where there is none."""
SPECIAL = "\\*_{}[]()<>#+!|$~:"
"""Characters that Markdown reads as more than themselves."""


REFRESH = 3.0
"""How often a page that lacks a run looks for it [s]."""
NAMED = 5
"""Bad runs that are named above a page; a study has none, or one."""


class ChosenRuns(NamedTuple):
    """The runs that the pages show, as `queries.candidates` lists them.

    A kind that has no run yet is None.
    """

    sae: pd.Series | None
    labels: pd.Series | None
    profile: pd.Series | None
    effects: pd.Series | None
    graph: pd.Series | None
    descriptions: pd.Series | None = None


@st.cache_resource(show_spinner=False)
def _opened(folder: str) -> Study:
    """Open the study, once for all sessions."""
    return Study(folder, create=False)


def open_study(folder: str) -> Study:
    """Give the study that all sessions share.

    A folder that is not a study raises NotFound, also one that was a study before.
    """
    study_file.system_of(Path(folder))
    return _opened(folder)


def pages() -> list[Any]:
    """List the pages in the order of the menu."""
    from workbench.views import (
        compare,
        effects,
        features,
        graph,
        instruments,
        label,
        overview,
        plan,
        profiles,
        review,
        steer,
    )

    return [
        st.Page(
            overview.page,
            title="Overview",
            icon=":material/explore:",
            url_path="overview",
            default=True,
        ),
        st.Page(
            features.page, title="Features", icon=":material/scatter_plot:", url_path="features"
        ),
        st.Page(label.page, title="Label", icon=":material/label:", url_path="label"),
        st.Page(steer.page, title="Steer", icon=":material/tune:", url_path="steer"),
        st.Page(
            profiles.page, title="Profiles", icon=":material/donut_large:", url_path="profiles"
        ),
        st.Page(
            instruments.page, title="Instruments", icon=":material/science:", url_path="instruments"
        ),
        st.Page(effects.page, title="Side effects", icon=":material/grid_on:", url_path="effects"),
        st.Page(compare.page, title="Compare", icon=":material/balance:", url_path="compare"),
        st.Page(graph.page, title="Graph", icon=":material/hub:", url_path="graph"),
        st.Page(plan.page, title="Plan", icon=":material/target:", url_path="plan"),
        st.Page(review.page, title="Review", icon=":material/rate_review:", url_path="review"),
    ]


def name_bad_runs(study: Study) -> None:
    """Show a line for each run that cannot be read and is left out; nothing where there is none."""
    bad = study.store.bad
    if not bad:
        return
    lines = [f"- {safe(visible(line))}" for line in [*bad.values()][:NAMED]]
    if len(bad) > NAMED:
        lines.append(f"- and {len(bad) - NAMED} more; `workbench check` names them all")
    noun = "run is" if len(bad) == 1 else "runs are"
    text = "\n".join([f"{len(bad)} {noun} left out of every page:", *lines])
    st.warning(text, icon=":material/warning:")


def say_published(study: Study) -> None:
    """Say above a page that someone published the study, what it lacks, and what they say of it."""
    published = study.published
    if published is None:
        return
    lacks = f"weights and {published.without}" if published.without else "weights"
    st.info(
        f"**{safe(published.file)}** is a published study: read only, without {safe(lacks)}."
        f" {safe(published.note)}",
        icon=":material/inventory_2:",
    )


def enter(page: Any, study: Study, chosen: ChosenRuns) -> None:
    """Run a page on the chosen runs; a user's mistake becomes one line on it."""
    st.session_state["study"], st.session_state["chosen"] = study, chosen
    st.session_state["version"] = study.store.version
    try:
        page.run()
    except WorkbenchError as error:
        st.error(safe(error), icon=":material/error:")


def here() -> tuple[Study, ChosenRuns]:
    """Give a page the study and the chosen runs."""
    return st.session_state["study"], st.session_state["chosen"]


def choose(study: Study) -> ChosenRuns:
    """Pick the runs to show. A list appears only where there is a choice."""
    store = study.store
    st.caption("study")
    st.markdown(f"**{safe(study.folder.name)}**")
    sae = pick("SAE", queries.candidates(store, "sae"))
    descriptions = labels = effects = graph = None
    if sae is not None:
        descriptions = pick(
            "Descriptions", queries.candidates(store, "descriptions", "sae", sae.run)
        )
        labels = pick("Labels", queries.candidates(store, "labels", "sae", sae.run))
    if labels is not None:
        sweeps = queries.candidates(store, "effects", "labels", labels.run)
        effects = pick("Side effects", sweeps, "steer", "part")
    if effects is not None:
        graph = pick("Graph", queries.candidates(store, "graph", "effects", effects.run))
    # Where there is an SAE, only profiles of the model that it reads.
    profiles = queries.profile_candidates(store, run_json(sae, "inputs").get("model", ""))
    return ChosenRuns(
        sae=sae,
        labels=labels,
        profile=pick("Value profile", profiles, "instrument", "steering"),
        effects=effects,
        graph=graph,
        descriptions=descriptions,
    )


def pick(label: str, runs: pd.DataFrame, *keys: str) -> pd.Series | None:
    """Let the user pick one of the runs; None where there is none.

    A list appears only where there is a choice. `keys`: which of their settings, or figures of
    their summaries, tell them apart.
    """
    if runs.empty:
        return None
    by_id = runs.set_index("run", drop=False)
    if len(runs) == 1:
        return runs.iloc[0]
    picked = st.selectbox(
        label,
        list(runs.run),
        format_func=lambda id: _run_title(by_id.loc[id], keys),
        key=f"run-{label}",
    )
    return by_id.loc[picked]


def _run_title(run: pd.Series, keys: Sequence[str]) -> str:
    """Write what tells a run apart: settings, figures, its time, and the end of its id."""
    known = run_json(run, "config") | run_json(run)
    figures = [str(known[key]) for key in keys if key in known]
    return " · ".join([*figures, f"{run.created:%d %b %H:%M}", run.run.split("-")[-1]])


def run_json(run: pd.Series | None, column: str = "summary") -> dict[str, Any]:
    """Read a JSON column of a run (`summary`, `config`, `inputs`); empty where there is no run."""
    return {} if run is None else json.loads(run[column])


def missing(study: Study, kind: str, what: str, flags: str = "") -> None:
    """Say in one friendly line what is not there yet, and the command that makes it.

    `flags`: those that the command needs.
    """
    if study.published is not None:
        st.info(f"{what} It was not made before the study was published.")
        return
    command = f"workbench {makers(kind)[0]} {shlex.quote(str(study.folder))} {flags}".rstrip()
    other = " (or `workbench adopt`)" if kind == "sae" else ""
    st.info(
        f"{what} Run `{command}`{other}. This page fills itself when it is done.",
        icon=":material/hourglass_empty:",
    )
    _fill(study)


@st.fragment(run_every=REFRESH)
def _fill(study: Study) -> None:
    """Draw the page anew once the study has other runs than the page has seen."""
    if study.store.version != st.session_state.setdefault("version", study.store.version):
        st.rerun()


def next_step(study: Study, chosen: ChosenRuns, *kinds: str) -> None:
    """Say which command comes next: the one that makes the first of `kinds` that has no run.

    `kinds` are what a page needs, each built on the ones before it.
    """
    for kind in kinds:
        if getattr(chosen, kind, None) is None:
            missing(study, kind, ABSENT[kind])
            return


def safe(text: object) -> str:
    """Escape a text so that Markdown shows it literally; code between backticks stays code."""
    parts = str(text).split("`")
    for number in range(len(parts)):
        is_code = number % 2 == 1 and number < len(parts) - 1
        if not is_code:
            parts[number] = _escape(parts[number])
    return "`".join(parts)


def _escape(text: str) -> str:
    return "".join("\\" + c if c in SPECIAL else c for c in text)


def show(figure: Any, key: str, **more: Any) -> Any:
    """Show a figure of `workbench/figures` as it is; gives what is selected where `more` asks."""
    return st.plotly_chart(
        figure,
        theme=None,
        key=key,
        config={"displaylogo": False, "displayModeBar": False, "scrollZoom": False},
        **more,
    )


def clicked(selection: Any) -> Any:
    """Give the `customdata` of the point that was clicked, or None."""
    points = selection.selection.points if selection else []
    return points[0].get("customdata") if points else None


def new_click(figure: Any, key: str) -> list[Any] | None:
    """Show a figure whose points can be clicked; give the `customdata` of one clicked just now.

    None where nothing was clicked since the last look: a selection stays when something else is
    chosen, and must not choose again.
    """
    selection = show(figure, key, on_select="rerun", selection_mode="points")
    picked = clicked(selection)
    if picked is None or list(picked) == st.session_state.get(f"clicked-{key}"):
        return None
    st.session_state[f"clicked-{key}"] = list(picked)
    return list(picked)


def keep(key: str, options: Sequence[Any], first: Any) -> None:
    """Leave a widget's choice as it is while it is on offer; otherwise it becomes `first`."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = first


def facts(pairs: Mapping[str, str]) -> None:
    """Show a few named numbers in one line that wraps."""
    cells = [
        f"<div><span>{html.escape(name)}</span><b>{html.escape(figure)}</b></div>"
        for name, figure in pairs.items()
    ]
    st.html(f'<div class="facts">{"".join(cells)}</div>')


def number(x: SupportsFloat | None, digits: int = 3) -> str:
    """Write a number for people; a dash where there is none."""
    return "–" if x is None or pd.isna(x) else f"{float(x):.{digits}g}"


def show_evidence(text: str) -> str:
    """Write a label's evidence for people: JSON as named numbers, a person's note as it is."""
    try:
        evidence = json.loads(text).items()
    except (json.JSONDecodeError, AttributeError):
        return text
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in evidence)
