"""The result in one picture: the side-effect matrix, the graph that was found, and the true one
beside it.

matplotlib, so that it needs no browser: it serves README files, papers and the end of `workbench
demo`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from feature_store import queries
from feature_store.records import ValueSystem
from workbench.figures.effects import inside_null
from workbench.figures.graph import (
    EXTRA,
    MISSED,
    NODE,
    WRONG,
    Arc,
    arc,
    judge,
    label_anchors,
    line_width,
)
from workbench.figures.style import (
    BAND,
    DIVERGING,
    FALL,
    INK,
    RISE,
    SOFT,
    colours,
    names,
    places,
    signed,
)
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.color": INK,
}
"""matplotlib's settings for the picture."""


def result_picture(study: Workspace, file: Path) -> Path:
    """Draw the latest effects and graph of a study into `file` (.png, .svg or .pdf).

    Returns the file. Where the true graph is known, it stands beside the one that was found.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    graph = study.resolve("graph", "latest")
    effects = graph.inputs.get("effects") or study.resolve("effects", "latest").id
    truth = queries.true_edges(study.store, graph.id)
    judged = judge(queries.edges(study.store, graph.id), truth)
    drawn = judged[judged.present | (judged.verdict == "missed")]
    largest = float(max([abs(w) for w in [*drawn.weight, *truth.weight]] or [1.0]))
    panels = 3 if len(truth) else 2
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            panels,
            figsize=(6.1 * panels, 6.4),
            width_ratios=[1.12, *[1] * (panels - 1)],
            layout="constrained",
        )
        _matrix(axes[0], queries.matrix(study.store, effects), study.system)
        _graph(axes[1], drawn, study.system, largest)
        edges = int(drawn.present.sum())
        _title(axes[1], f"Causal graph, found by intervening ({edges} edges)")
        if len(truth):
            wrong = int(judged.verdict.isin(WRONG).sum())
            _graph(axes[2], truth, study.system, largest)
            _title(
                axes[2],
                f"Planted graph ({len(truth)} edges, structural distance {wrong} of"
                f" {len(judged)} pairs)",
            )
        figure.savefig(file, dpi=150, facecolor="white")
        plt.close(figure)
    return file


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, fontsize=12, loc="left")


def _matrix(axes: "Axes", cells: pd.DataFrame, system: ValueSystem) -> None:
    """Draw the side-effect matrix, a square a cell with its number."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    name_of = names(system)
    order = [v for v in system.ids if v in set(cells.source)]
    rows = cells.assign(masked=inside_null(cells)).set_index(["source", "target"])
    span = float(np.nanmax(np.abs(cells.effect))) or 1.0
    paint = LinearSegmentedColormap.from_list("effects", DIVERGING)
    for i, source in enumerate(order):
        for j, target in enumerate(order):
            cell = rows.loc[(source, target)]
            ground = BAND if cell.masked else paint(0.5 + cell.effect / span / 2)
            axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=ground, lw=0))
            star = "*" if cell.q < 0.05 else ""
            ink = "white" if abs(cell.effect) > 0.62 * span else INK
            axes.text(
                j,
                i,
                f"{signed(cell.effect, 1)}{star}",
                ha="center",
                va="center",
                fontsize=9,
                color=SOFT if cell.masked else ink,
            )
    labels = [name_of[v] for v in order]
    axes.set(xlim=(-0.5, len(order) - 0.5), ylim=(len(order) - 0.5, -0.5), aspect="equal")
    axes.set_xticks(range(len(order)), labels, rotation=38, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(order)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _title(
        axes,
        "Side effects of steering: row steered, column measured [SD]\ngrey: within the null band,"
        " *: q < 0.05",
    )


def _graph(axes: "Axes", edges: pd.DataFrame, system: ValueSystem, largest: float) -> None:
    """Draw a graph of values on their circle; `largest` is the weight of the widest edge."""
    from matplotlib.patches import Circle

    name_of, hue, place = names(system), colours(system), places(system)
    for edge in edges.sort_values("weight", key=abs).itertuples():
        width = line_width(edge.weight, largest)
        _edge(axes, edge, arc(place[edge.source], place[edge.target], width), width)
    for id in system.ids:
        x, y = place[id]
        horizontal, vertical = label_anchors(x, y)
        axes.add_patch(Circle((x, y), NODE, color=hue[id], zorder=3))
        axes.text(
            x * (1 + NODE * 1.6),
            y * (1 + NODE * 1.7),
            name_of[id],
            ha=horizontal,
            va="center" if vertical == "middle" else vertical,
        )
    axes.set(xlim=(-1.62, 1.62), ylim=(-1.3, 1.3), aspect="equal")
    axes.axis("off")


def _edge(axes: "Axes", edge: Any, curve: Arc, width: float) -> None:
    """Draw one edge along its curve, `width` pixels wide, and its verdict where it is wrong."""
    from matplotlib.patches import Polygon

    verdict = getattr(edge, "verdict", "")
    missed = verdict == "missed"
    if missed:
        colour, opacity = MISSED, 0.9
    else:
        colour = RISE if edge.weight > 0 else FALL
        opacity = 0.3 + 0.7 * getattr(edge, "frequency", 1.0)
    axes.plot(
        curve.x,
        curve.y,
        color=colour,
        alpha=opacity,
        lw=width * 0.75,
        ls=":" if missed else "-",
        solid_capstyle="butt",
    )
    axes.add_patch(Polygon(curve.head, color=colour, alpha=opacity, lw=0))
    if verdict in WRONG:
        middle = len(curve.x) // 2
        axes.text(
            curve.x[middle],
            curve.y[middle],
            verdict,
            fontsize=9,
            ha="center",
            va="center",
            color=SOFT if missed else EXTRA,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
        )
