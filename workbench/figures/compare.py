"""Steering methods beside each other: effect, leakage, damage and text score of each method, as the
mean over values and for every value.

Diamonds are means over values with 95 % intervals, dots are single values in their colours. The
mean leakage is that over the values where leakage is defined, and has no interval.
"""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from feature_store.records import ValueSystem
from workbench.figures.style import INK, SOFT, bars, colours, dress, faded, names

CONTROLS = ("random-feature", "random-direction", "wrong-sign")
"""Arms that are controls."""
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
    """Order the methods from the largest effect to the smallest, controls beneath them."""
    ranked = means.sort_values("effect", ascending=False).arm
    return [a for a in ranked if a not in CONTROLS] + [a for a in ranked if a in CONTROLS]


def arm_forest(
    means: pd.DataFrame, chosen: pd.DataFrame, system: ValueSystem, height: int = 480
) -> go.Figure:
    """Draw a forest plot of the arms, with every value at its chosen strength.

    `means`: `queries.arm_means`; `chosen`: `queries.arms`. A panel a measure that was taken.
    """
    order = arm_order(means)
    measures = [name for name in TITLES if means[name].notna().any()]
    figure = make_subplots(rows=1, cols=len(measures), shared_yaxes=True, horizontal_spacing=0.035)
    place = {arm: -k for k, arm in enumerate(order)}
    means = means.set_index("arm").loc[order]
    points = chosen[chosen.arm.isin(order)]
    for column, name in enumerate(measures, 1):
        panel = {"row": 1, "col": column}
        if name in points:
            _value_dots(figure, points, name, place, system, panel)
        _mean_diamonds(figure, means, name, place, panel)
        figure.update_xaxes(title_text=TITLES[name], zeroline=True, **panel)
    dress(figure, height=height, showlegend=False)
    figure.update_yaxes(showgrid=False, zeroline=False, range=[-len(order) + 0.4, 0.6])
    figure.update_yaxes(
        tickmode="array", tickvals=list(place.values()), ticktext=list(place), row=1, col=1
    )
    return figure


def _value_dots(
    figure: go.Figure,
    points: pd.DataFrame,
    name: str,
    place: Mapping[str, int],
    system: ValueSystem,
    panel: Mapping[str, int],
) -> None:
    """Draw one measure of every arm and value as small dots, a little beneath the arm's mean."""
    name_of, hue = names(system), colours(system)
    figure.add_scatter(
        x=points[name],
        y=[place[arm] - 0.22 for arm in points.arm],
        mode="markers",
        marker={"size": 5, "color": [faded(hue[value], 0.75) for value in points.value]},
        hovertext=[
            f"<b>{r.arm}</b> for {name_of[r.value]}<br>{getattr(r, name):.3g} at strength"
            f" {r.dose:g}"
            for r in points.itertuples()
        ],
        hoverinfo="text",
        **panel,
    )


def _mean_diamonds(
    figure: go.Figure,
    means: pd.DataFrame,
    name: str,
    place: Mapping[str, int],
    panel: Mapping[str, int],
) -> None:
    """Draw one measure of every arm, the mean over values, with its interval where it has one."""
    mean = means[name]
    texts = [f"<b>{arm}</b><br>{number:.3g}" for arm, number in mean.items()]
    error = None
    if name in LEGS:
        low, high = (means[end] for end in LEGS[name])
        error = bars(mean, low, high, "#aab3bd")
        texts = [f"{text} [{a:.3g}, {b:.3g}]" for text, a, b in zip(texts, low, high, strict=True)]
    figure.add_scatter(
        x=mean,
        y=[place[arm] for arm in means.index],
        mode="markers",
        marker={
            "size": 11,
            "symbol": "diamond",
            "color": [SOFT if arm in CONTROLS else INK for arm in means.index],
            "line": {"color": "white", "width": 1},
        },
        error_x=error,
        hovertext=texts,
        hoverinfo="text",
        **panel,
    )
