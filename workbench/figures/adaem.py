"""AdAEM: how far apart questions drive the members, how the search went, and who holds which value
most.

Bars are 95 % intervals over questions. The dashed tick is what the same opinions give when they are
dealt out to the members at random.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from feature_store.records import ValueSystem
from workbench.figures.cells import MatrixCell, matrix
from workbench.figures.style import (
    CLICKED,
    FALL,
    LEGEND_ABOVE,
    RISE,
    SOFT,
    WHOLE,
    bars,
    dress,
    names,
    plain,
)

SETS = {"found": "found by the search", "best-seed": "best seeds", "seed": "seeds"}
"""Set of questions -> its name, the new instrument first."""


def separation_rows(rows: pd.DataFrame, height: int = 230) -> go.Figure:
    """Draw the mean separation of each set of questions, from opinions that the search never saw.

    `rows`: `queries.adaem_separation`.
    """
    known = rows.set_index("questions").reindex(
        [name for name in SETS if name in set(rows.questions)]
    )
    y = list(range(len(known)))
    figure = go.Figure()
    figure.add_scatter(
        x=known.searched,
        y=y,
        mode="markers",
        name="what the search believed",
        marker={"symbol": "x-thin", "size": 9, "line": {"color": SOFT, "width": 2}},
        hoverinfo="text",
        hovertext=[
            f"believed by the search: {x:.3f} nats, too good to be true" for x in known.searched
        ],
    )
    figure.add_scatter(
        x=known.chance,
        y=y,
        mode="markers",
        name="chance",
        marker={"symbol": "line-ns", "size": 20, "line": {"color": SOFT, "width": 2}},
        hoverinfo="text",
        hovertext=[f"chance: {x:.3f} nats" for x in known.chance],
    )
    figure.add_scatter(
        x=known.separation,
        y=y,
        mode="markers",
        name="from fresh opinions",
        marker={"size": 13, "color": [RISE if name == "found" else FALL for name in known.index]},
        hoverinfo="text",
        error_x=bars(known.separation, known.low, known.high),
        hovertext=[
            f"<b>{SETS[r.Index]}</b><br>{r.separation:.3f} [{r.low:.3f}, {r.high:.3f}] nats, {r.n}"
            f" questions<br>chance {r.chance:.3f}"
            for r in known.itertuples()
        ],
    )
    dress(figure, height=height, legend=LEGEND_ABOVE)
    figure.update_yaxes(
        tickmode="array",
        tickvals=y,
        ticktext=[f"{SETS[name]} ({n})" for name, n in zip(known.index, known.n, strict=True)],
        range=[len(y) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        title_text="separation of the members [nats], bars: 95 % interval over questions",
        rangemode="tozero",
    )
    return figure


def search_history(pulls: pd.DataFrame, questions: pd.DataFrame, height: int = 300) -> go.Figure:
    """Draw every pull's best score, and the mean of the topics' best so far.

    `pulls`: `queries.adaem_pulls`; `questions`: `queries.adaem_questions`. `customdata` of a point
    is [question], -1 where the pull gave none.
    """
    seeds = questions[questions.pull < 0].set_index("topic").score
    best = seeds.to_dict()
    mean = []
    for pull in pulls.itertuples():
        if pull.accepted >= 0:
            best[pull.topic] = pull.reward
        mean.append(float(np.nanmean(list(best.values()))))
    figure = go.Figure()
    figure.add_scatter(
        x=[-1, *pulls.pull],
        y=[float(seeds.mean()), *mean],
        mode="lines",
        line={"color": SOFT, "width": 2, "shape": "hv"},
        name="mean of the topics' best",
        hovertemplate="after pull %{x}: %{y:.3f} nats<extra></extra>",
    )
    for accepted, name, paint in (
        (True, "became its topic's best", RISE),
        (False, "did not", "white"),
    ):
        rows = pulls[(pulls.accepted >= 0) == accepted]
        figure.add_scatter(
            x=rows.pull,
            y=rows.reward,
            mode="markers",
            name=name,
            marker={"size": 9, "color": paint, "line": {"color": RISE, "width": 1.5}},
            hoverinfo="text",
            customdata=[[int(number)] for number in rows.question.astype(float).fillna(-1)],
            unselected=WHOLE,
            hovertext=[
                f"<b>pull {r.pull}</b>, topic {r.topic}<br>best of {r.tried} new questions:"
                f" {r.reward:.3f} nats<br>expected {r.quality:.3f}, bonus {r.bonus:.3f}"
                for r in rows.itertuples()
            ],
        )
    dress(
        figure,
        height=height,
        legend=LEGEND_ABOVE,
        **CLICKED,
    )
    figure.update_xaxes(title_text="pull of the bandit", zeroline=False)
    figure.update_yaxes(title_text="score S in the search [nats]", rangemode="tozero")
    return figure


def rating_matrix(
    ratings: pd.DataFrame, members: list[str], system: ValueSystem, row: int = 34
) -> go.Figure:
    """Draw the win rate of every member on every value; grey where its interval includes a half.

    `ratings`: `queries.adaem_ratings`; `row`: height of a member's row [pixels]. `customdata` of a
    cell is [member, value].
    """
    name_of = names(system)
    order = [v for v in system.ids if v in set(ratings.value)]
    cells = [
        MatrixCell(
            row=plain(r.member),
            column=name_of[r.value],
            size=r.win_rate - 0.5,
            text=f"{r.win_rate:.2f}",
            hover=(
                f"<b>{plain(r.member)}, {name_of[r.value]}</b><br>win rate {r.win_rate:.2f}"
                f" [{r.win_low:.2f}, {r.win_high:.2f}]<br>TrueSkill {r.mu:.1f} [{r.low:.1f},"
                f" {r.high:.1f}]<br>opinions that hold it {r.share:.2f} [{r.share_low:.2f},"
                f" {r.share_high:.2f}]<br>{r.n} questions, {r.matches} matches, {r.missing} missing"
            ),
            faint=bool(r.win_low <= 0.5 <= r.win_high),
            data=(r.member, r.value),
        )
        for r in ratings[ratings.win_rate.notna()].itertuples()
    ]
    return matrix(
        cells,
        [plain(m) for m in members],
        [name_of[v] for v in order],
        span=0.5,
        height=row * len(members) + 110,
        shape="oblong",
    )
