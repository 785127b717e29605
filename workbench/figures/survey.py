"""What is known before anything is steered in earnest: damage over strength.

Bands are 95 % intervals.
"""

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.style import INK, LEGEND_ABOVE, SOFT, UNITS, bars, dress

KINDS = {
    "feature": ("labelled features", INK, "solid"),
    "random-direction": ("random directions", SOFT, "dot"),
}
"""Kind of what was steered -> its name, colour and line."""


def dose_curve(
    rows: pd.DataFrame, unit: str, limit: float, strength: float, height: int = 300
) -> go.Figure:
    """Draw the search for a sweep's doses: damage over strength, and where it meets the limit.

    `rows`: `queries.dose_curves`; `limit`: largest damage [nats per token]; `strength`: the largest
    dose that was taken [`unit`].
    """
    figure = go.Figure()
    for kind, (name, colour, dash) in KINDS.items():
        of_kind = rows[rows.kind == kind]
        figure.add_scatter(
            x=of_kind.dose,
            y=of_kind.damage,
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": dash, "width": 2},
            error_y=bars(of_kind.damage, of_kind.low, of_kind.high, thickness=2),
            hovertemplate=f"{name}<br>%{{x:.3g}}: %{{y:.3f}} nats per token<extra></extra>",
        )
    dress(figure, height=height, legend=LEGEND_ABOVE)
    figure.add_hline(y=limit, line={"color": SOFT, "width": 1, "dash": "dot"})
    figure.add_vline(x=strength, line={"color": SOFT, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text=f"strength [{UNITS[unit]}], 95 % intervals", type="log")
    figure.update_yaxes(title_text="damage [nats per token]", rangemode="tozero")
    return figure
