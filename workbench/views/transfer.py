"""Whether the labels carry over to what the model writes, as a section of the page Compare.

1. What independent ears hear of every arm, the rank of the steered value first.
2. What each ear and each instrument says of each value, side by side.
"""

import pandas as pd
import streamlit as st

from feature_store import queries
from workbench.figures.style import names, signed
from workbench.study import Study
from workbench.views import number, pick

STAR = "*"
"""Marks an effect outside the null band."""


def section(study: Study, labels: str) -> None:
    """Show the newest transfer of a run of labels; nothing where there is none."""
    run = pick("Transfer", queries.candidates(study.store, "transfer", "labels", labels))
    if run is None:
        return
    st.subheader("Does it carry over to text?")
    ranks = queries.transfer_ranks(study.store, run.run)
    shown = pd.DataFrame(
        {
            "steered": ranks.arm,
            "way": ranks.turn,
            "ear": ranks.ear,
            "rank of the value": [
                f"{number(r.rank, 2)} [{number(r.low, 2)}, {number(r.high, 2)}]"
                for r in ranks.itertuples(index=False)
            ],
            "p": [number(p, 2) for p in ranks.p],
            "heard": [f"{r.heard} of {r.n_values}" for r in ranks.itertuples()],
            "others moved": [f"{r.others_moved} of {r.others}" for r in ranks.itertuples()],
        }
    )
    st.dataframe(shown, hide_index=True)
    st.caption(
        "Texts written while the labels' features were steered at equal damage, judged by ears that"
        " know nothing of the labels. Rank: share of the other values that change less (0.5 ="
        f" chance); 95 % intervals over {int(ranks.n.max())} openings, seed {run.seed}. Heard:"
        " beyond the controls' null band with q below 0.05. `between` is half of up less down."
    )
    _verdicts(study, run.run, labels)


def _verdicts(study: Study, run: str, labels: str) -> None:
    """Lay the effect of each value on itself side by side, judge by judge."""
    rows = queries.judged_labels(study.store, run, labels)
    rows["cell"] = [
        f"{signed(r.effect)} [{signed(r.low)}, {signed(r.high)}]{STAR if r.heard else ''}"
        for r in rows.itertuples()
    ]
    rows["judge"] = rows.arm + ": " + rows.judge
    table = rows.pivot_table(index="value", columns="judge", values="cell", aggfunc="first")
    name_of = names(study.system)
    order = [value for value in study.system.ids if value in table.index]
    st.dataframe(table.loc[order].rename(index=name_of).rename_axis(None).fillna("–"))
    st.caption(
        "The effect of steering a value up on itself [SD of the judge's scores: of ears over human"
        f" texts, of instruments over contexts]. {STAR} beyond the null band."
    )
