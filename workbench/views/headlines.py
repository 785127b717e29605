"""What a study has found, in three sentences: what the model values, what carries it and moves with
what, and what causes what.

1. Each sentence is made of the store's rows alone. A number stands with its interval and n.
2. A value counts where its interval leaves 0 and priming can tell so small a difference. A side
   effect counts where it leaves the null band of random controls and q is below `SURE`.
3. What was not found is said as plainly: no value stands out, nothing moves beyond chance.

Left out: what no run was made for. Its sentence is missing; the page says which command makes it.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

SURE = 0.05
"""Largest q of a side effect that is told."""
NAMED = 3
"""Values, or links, that are named in a sentence."""


class Headline(NamedTuple):
    """A sentence of what was found."""

    text: str
    """One or two sentences, plain text."""
    page: str
    """Address of the page with its evidence, such as `effects`."""


def about_profile(
    rows: pd.DataFrame, summary: Mapping[str, Any], names: Mapping[str, str], unit: str
) -> Headline:
    """Say which values stand out in a profile: centred rows of the unsteered model."""
    if summary.get("heard") == "no":
        text = "This way of asking does not hear the model, so no value of it can be claimed."
        return Headline(text, "profiles")
    least = float(summary.get("resolution", 0.0))
    clear = rows[((rows.low > 0) | (rows.high < 0)) & (rows["mean"].abs() >= least)]
    if clear.empty:
        holding = int(((rows.low <= 0) & (rows.high >= 0)).sum())
        reason = (
            f"all {holding} intervals hold 0"
            if holding == len(rows)
            else f"no difference reaches {least:.2g}, the smallest that priming can make"
        )
        return Headline(f"No value stands out: {reason}.", "profiles")
    ordered = clear.sort_values("mean", ascending=False)
    above = [_row(row, names) for row in ordered[ordered["mean"] > 0].itertuples()]
    below = [_row(row, names) for row in ordered[ordered["mean"] < 0].iloc[::-1].itertuples()]
    sides = [f"{_listed(above)} above"] * bool(above) + [f"{_listed(below)} below"] * bool(below)
    return Headline(
        f"The model holds {', and '.join(sides)} the mean of its values [{unit};"
        f" n {int(rows.n.max())}].",
        "profiles",
    )


def about_effects(
    labels: Mapping[str, Any],
    cells: pd.DataFrame | None,
    names: Mapping[str, str],
    heard: str = "yes",
) -> Headline:
    """Say how many features carry values, and what moves most when a value is turned up.

    `labels` is the summary of a run of labels, `cells` its side-effect matrix; None: not steered.
    """
    count = int(labels.get("features_labelled", 0))
    noun = "feature carries a value" if count == 1 else "features carry values"
    text = f"{count:,} {noun}." if count else "No feature carries a value."
    if cells is None:
        return Headline(text, "features")
    if heard == "no":
        text += " This way of asking does not hear the model, so no side effect can be claimed."
        return Headline(text, "effects")
    if cells.null_high.isna().all():
        text += " No control was steered, so no side effect can be told from chance."
        return Headline(text, "effects")
    others, sure = _survivors(cells)
    if sure.empty:
        text += " Turning a value up moves no other one beyond random controls."
        return Headline(text, "effects")
    most = sure.loc[sure.effect.abs().idxmax()]
    verb = "raises" if most.effect > 0 else "lowers"
    more = len(sure) - 1
    rest = f" {more} more of {len(others)} side effects leave the null band." if more else ""
    return Headline(
        f"{text} Turning {names[most.source]} up {verb} {names[most.target]} by"
        f" {abs(most.effect):.2f} SD [{_span(most)}; n {int(most.n)}].{rest}",
        "effects",
    )


def about_graph(edges: pd.DataFrame, names: Mapping[str, str], n: int) -> Headline:
    """Say which causal links were inferred: every ordered pair of values."""
    present = edges[edges.present].sort_values("weight", key=abs, ascending=False)
    if present.empty:
        text = f"No causal link between two values was found among {len(edges)} ordered pairs."
        return Headline(text, "graph")
    shown = [
        f"{names[row.source]} {'raises' if row.weight > 0 else 'lowers'} {names[row.target]}"
        for row in present.itertuples()
    ]
    noun = "causal link was" if len(present) == 1 else "causal links were"
    return Headline(
        f"{len(present)} {noun} found among {len(edges)} ordered pairs (n {n}): {_listed(shown)}.",
        "graph",
    )


def as_html(headlines: Sequence[Headline]) -> str:
    """Write the sentences as HTML, each a link to its evidence."""
    lines = (
        f'<p class="headline"><a href="{html.escape(line.page)}" target="_self">'
        f"{html.escape(line.text)}</a></p>"
        for line in headlines
    )
    return "".join(lines)


def _survivors(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the side effects, and those that leave the null band of random controls."""
    others = cells[cells.source != cells.target]
    outside = (others.effect > others.null_high) | (others.effect < others.null_low)
    return others, others[outside & (others.q < SURE)]


def _row(row: Any, names: Mapping[str, str]) -> str:
    """Write a value with its number and interval."""
    return f"{names[row.value]} ({row.mean:+.2f} [{row.low:+.2f}, {row.high:+.2f}])"


def _span(row: Any) -> str:
    """Write an interval of an effect's size, the smaller end first."""
    ends = sorted((abs(row.low), abs(row.high))) if row.low * row.high > 0 else (row.low, row.high)
    return ", ".join(f"{end:.2f}" for end in ends)


def _listed(parts: Sequence[str]) -> str:
    """List the first parts, and say how many there are besides."""
    more = len(parts) - NAMED
    shown = ", ".join(parts[:NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
