"""Steering methods beside each other: effect, leakage, damage and text score of each, the mean over
values and every value.

Diamonds are means over values with 95 % intervals, dots are single values in their colours. The
mean leakage is that over the values where leakage is defined, and has no interval.
"""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feature_store.records import ValueSystem
from workbench.figures.style import INK, SOFT, colours, dress, faded, names

CONTROLS = ("random-feature", "random-direction", "wrong-sign")
TITLES = {
    "effect": "effect on the value<br>[unsteered SD]",
    "leakage": "side effects over<br>own effect [ratio]",
    "damage": "damage<br>[nats per token]",
    "harmonic": "text score<br>[0 to 2]",
}
"""Column -> the title of its axis."""
LEGS = {
    "effect": ("low", "high"),
    "damage": ("damage_low", "damage_high"),
    "harmonic": ("harmonic_low", "harmonic_high"),
}
"""Column -> the columns of its interval."""


def arm_order(means: pd.DataFrame) -> list[str]:
    """Methods from the largest effect to the smallest, controls beneath them."""
    ranked = means.sort_values("effect", ascending=False).arm
    return [a for a in ranked if a not in CONTROLS] + [a for a in ranked if a in CONTROLS]


def arm_forest(
    means: pd.DataFrame, chosen: pd.DataFrame, system: ValueSystem, height: int = 480
) -> go.Figure:
    """A forest plot of the arms (`queries.arm_means`), with every value at its chosen strength
    (`queries.arms`).
    """
    called, hue, order = names(system), colours(system), arm_order(means)
    columns = [name for name in TITLES if means[name].notna().any()]
    figure = make_subplots(rows=1, cols=len(columns), shared_yaxes=True, horizontal_spacing=0.035)
    place = {arm: -k for k, arm in enumerate(order)}
    means = means.set_index("arm").loc[order]
    paint = [SOFT if arm in CONTROLS else INK for arm in order]
    for column, name in enumerate(columns, 1):
        if name in chosen:
            points = chosen[chosen.arm.isin(order)]
            figure.add_scatter(
                x=points[name],
                y=[place[a] - 0.22 for a in points.arm],
                mode="markers",
                marker={"size": 5, "color": [faded(hue[v], 0.75) for v in points.value]},
                hovertext=[
                    f"<b>{r.arm}</b> for {called[r.value]}<br>{getattr(r, name):.3g} at strength"
                    f" {r.dose:g}"
                    for r in points.itertuples()
                ],
                hoverinfo="text",
                row=1,
                col=column,
            )
        said = [f"<b>{arm}</b><br>{row[name]:.3g}" for arm, row in means.iterrows()]
        bars = None
        if name in LEGS:
            low, high = (means[end] for end in LEGS[name])
            bars = {
                "type": "data",
                "symmetric": False,
                "array": high - means[name],
                "arrayminus": means[name] - low,
                "thickness": 3,
                "width": 0,
                "color": "#aab3bd",
            }
            said = [
                f"{text} [{a:.3g}, {b:.3g}]" for text, a, b in zip(said, low, high, strict=True)
            ]
        figure.add_scatter(
            x=means[name],
            y=[place[a] for a in order],
            mode="markers",
            marker={
                "size": 11,
                "symbol": "diamond",
                "color": paint,
                "line": {"color": "white", "width": 1},
            },
            error_x=bars,
            hovertext=said,
            hoverinfo="text",
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text=TITLES[name], zeroline=True, row=1, col=column)
    dress(figure, height=height, showlegend=False)
    figure.update_yaxes(showgrid=False, zeroline=False, range=[-len(order) + 0.4, 0.6])
    figure.update_yaxes(
        tickmode="array", tickvals=list(place.values()), ticktext=list(place), row=1, col=1
    )
    return figure
