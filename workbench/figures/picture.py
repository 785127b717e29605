"""The result in one picture: the side-effect matrix, the graph that was found, and the true one
beside it.

matplotlib, so that it needs no browser: it serves README files, papers and the end of `workbench
demo`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feature_store import queries
from feature_store.records import ValueSystem
from workbench.figures.effects import inside_null
from workbench.figures.graph import EXTRA, MISSED, NODE, arc, judge, line_width
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


def result_picture(study: Workspace, file: Path) -> Path:
    """Draw the latest effects and graph of a study into `file` (.png, .svg, .pdf); returns it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    graph = study.resolve("graph", "latest")
    effects = graph.inputs.get("effects") or study.resolve("effects", "latest").id
    cells, truth = queries.matrix(study.store, effects), queries.true_edges(study.store, graph.id)
    judged = judge(queries.edges(study.store, graph.id), truth)
    found = judged[judged.present | (judged.verdict == "missed")]
    largest = float(max([abs(w) for w in [*found.weight, *truth.weight]] or [1.0]))
    panels = 3 if len(truth) else 2
    with plt.rc_context(
        {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10.5,
            "text.color": INK,
        }
    ):
        figure, axes = plt.subplots(
            1,
            panels,
            figsize=(6.1 * panels, 6.4),
            width_ratios=[1.12, *[1] * (panels - 1)],
            layout="constrained",
        )
        _matrix(axes[0], cells, study.system)
        _graph(
            axes[1],
            found,
            study.system,
            largest,
            f"Causal graph, found by intervening ({int(found.present.sum())} edges)",
        )
        if len(truth):
            shd = int((judged.verdict.isin(["extra", "missed", "wrong sign"])).sum())
            _graph(
                axes[2],
                truth,
                study.system,
                largest,
                f"Planted graph ({len(truth)} edges, structural distance {shd} of {len(judged)}"
                " pairs)",
            )
        figure.savefig(file, dpi=150, facecolor="white")
        plt.close(figure)
    return file


def _matrix(axes: Any, cells: pd.DataFrame, system: ValueSystem) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    called = names(system)
    order = [v for v in system.ids if v in set(cells.source)]
    rows = cells.assign(masked=inside_null(cells)).set_index(["source", "target"])
    span = float(np.nanmax(np.abs(cells.effect))) or 1.0
    paint = LinearSegmentedColormap.from_list("effects", DIVERGING)
    for i, source in enumerate(order):
        for j, target in enumerate(order):
            cell = rows.loc[(source, target)]
            colour = BAND if cell.masked else paint(0.5 + cell.effect / span / 2)
            axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=colour, lw=0))
            star = "*" if cell.q < 0.05 else ""
            ink = SOFT if cell.masked else "white" if abs(cell.effect) > 0.62 * span else INK
            axes.text(
                j,
                i,
                f"{signed(cell.effect, 1)}{star}",
                ha="center",
                va="center",
                fontsize=9,
                color=ink,
            )
    axes.set(xlim=(-0.5, len(order) - 0.5), ylim=(len(order) - 0.5, -0.5), aspect="equal")
    axes.set_xticks(
        range(len(order)),
        [called[v] for v in order],
        rotation=38,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_yticks(range(len(order)), [called[v] for v in order])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(
        "Side effects of steering: row steered, column measured [SD]\ngrey: within the null band,"
        " *: q < 0.05",
        fontsize=12,
        loc="left",
    )


def _graph(axes: Any, edges: pd.DataFrame, system: ValueSystem, largest: float, title: str) -> None:
    from matplotlib.patches import Circle, Polygon

    called, hue, place = names(system), colours(system), places(system)
    for edge in edges.sort_values("weight", key=abs).itertuples():
        verdict, frequency = getattr(edge, "verdict", ""), getattr(edge, "frequency", 1.0)
        width = line_width(edge.weight, largest)
        curve = arc(place[edge.source], place[edge.target], width)
        missed = verdict == "missed"
        colour, opacity = (
            (MISSED, 0.9) if missed else (RISE if edge.weight > 0 else FALL, 0.3 + 0.7 * frequency)
        )
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
        if verdict in ("extra", "missed", "wrong sign"):
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
    for id in system.ids:
        x, y = place[id]
        axes.add_patch(Circle((x, y), NODE, color=hue[id], zorder=3))
        axes.text(
            x * (1 + NODE * 1.6),
            y * (1 + NODE * 1.7),
            called[id],
            ha="center" if abs(x) < 0.2 else "left" if x > 0 else "right",
            va="center" if abs(x) >= 0.2 else "bottom" if y > 0 else "top",
        )
    axes.set(xlim=(-1.62, 1.62), ylim=(-1.3, 1.3), aspect="equal")
    axes.axis("off")
    axes.set_title(title, fontsize=12, loc="left")
