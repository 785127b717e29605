"""Instruments: what some of them tell beyond a profile, down to the single answers.

`?show=` names the section: the Bayesian ordinal regression, moral dilemmas step by step, or AdAEM's
search for questions. One file a section.
"""

import streamlit as st

from workbench.views import here, keep
from workbench.views.instruments import adaem, dilemmas, ordinal

SECTIONS = {
    "ordinal": ("Ordinal regression", ordinal.section),
    "dilemmas": ("Moral dilemmas", dilemmas.section),
    "adaem": ("AdAEM", adaem.section),
}
"""Name in the address -> title, and what draws it."""


def page() -> None:
    """Show the section that was chosen."""
    study, _ = here()
    st.title("Instruments")
    address = st.query_params.get("show", "")
    keep("instruments-show", list(SECTIONS), address if address in SECTIONS else "ordinal")
    shown = st.segmented_control(
        "Instrument",
        list(SECTIONS),
        required=True,
        format_func=lambda name: SECTIONS[name][0],
        label_visibility="collapsed",
        key="instruments-show",
    )
    section = shown or "ordinal"
    if section != address:
        st.query_params["show"] = section
    SECTIONS[section][1](study)
