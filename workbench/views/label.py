"""Label: one feature at a time, with all that speaks for its labels, judged by keys alone.

1. Whoever labels says who they are. A name that is in use elsewhere is asked about.
2. The queue (`queries.label_queue`) says which feature comes next; `?feature=N` names another one.
3. On one screen: strongest contexts, promoted tokens, and the labels that compete with what speaks
   for each. A key keeps a verdict and turns to the next feature.
4. What others say of a feature is shown once one has judged it oneself, and never before: their
   verdicts, and labels made of them, are left out of what is shown here. How far people agree is
   shown as one number.

A published study cannot be labelled, and the page says what to do instead. Left out: merging the
small runs that verdicts are (`workbench compact`).
"""

import html
import secrets
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
import streamlit as st

from feature_store import queries
from feature_store.errors import WorkbenchError
from feature_store.records import VerdictWord
from workbench import figures
from workbench.features import verdicts
from workbench.features.verdicts import NameTaken, Person, Statement
from workbench.figures.style import names, probability, side
from workbench.study import Study
from workbench.views import here, missing, number, safe, show_evidence
from workbench.views.description import token_chips
from workbench.views.feature import show_contexts

CONTEXTS = 6
"""Contexts that are shown."""
TOKENS = 12
"""Promoted tokens that are shown."""
MANY = 200
"""Runs of verdicts from which on it is said that they can be merged."""
DIGITS = "1234567890"
"""Keys of the values, the first ten by themselves, the next with Shift."""
SIDES: dict[str, Literal[-1, 0, 1]] = {"held": 1, "rejected": -1, "both sides": 0}
"""Side of a value that is named instead of the offered one."""
SAID = {
    "accept": "yes",
    "reject": "no value",
    "change": "another value",
    "both": "both poles",
    "unsure": "unsure",
}
"""Verdict -> how it is repeated."""


class Turn(NamedTuple):
    """What is judged now, by whom."""

    study: Study
    sae: str
    person: Person
    feature: int
    offered: pd.Series | None
    """The label that most runs give, a row of the queue; None: no run labels the feature."""


def page() -> None:
    """Ask who labels, and show the feature whose turn it is."""
    study, chosen = here()
    st.title("Label")
    if chosen.sae is None:
        missing(study, "sae", "There are no features to label yet.")
        return
    if study.published is not None:
        st.info(
            "A published study is read only, so nothing can be labelled in it. Make the study on"
            " your machine and label there; verdicts travel as a table: `workbench verdicts STUDY"
            " --export FILE` writes them, `--import FILE` reads them.",
            icon=":material/lock:",
        )
        return
    sae = chosen.sae.run
    runs = list(queries.voices(study.store, sae).run)
    if not runs:
        missing(study, "labels", "There is no label to judge yet.")
        return
    person = _who(study)
    if person is None:
        return
    queue = queries.label_queue(study.store, sae, runs, person.name, person.desk)
    _standing(study, sae, person, len(queue))
    feature = _whose_turn(queue)
    if feature is None:
        st.success("You have judged every labelled feature.", icon=":material/done_all:")
        _undo(Turn(study=study, sae=sae, person=person, feature=-1, offered=None))
        return
    if queries.feature(study.store, sae, feature).empty:
        st.error("There is no such feature. `J` turns to the next one.")
    st.query_params["feature"] = str(feature)
    rows = queue[queue.feature == feature]
    offered = None if rows.empty else rows.iloc[0]
    turn = Turn(study=study, sae=sae, person=person, feature=feature, offered=offered)
    _head(turn)
    _keys(turn)
    _evidence(turn, runs, "" if chosen.descriptions is None else chosen.descriptions.run)


def _who(study: Study) -> Person | None:
    """Give the person who labels in this tab; ask where nobody has said it yet."""
    known = st.session_state.get("labeller")
    if known is not None and st.session_state.get("labeller-of") == str(study.folder):
        return known
    desk = st.session_state.setdefault(
        "labeller-desk", f"{verdicts.this_desk()}-{secrets.token_hex(2)}"
    )
    with st.form("labeller-form", border=True):
        name = st.text_input("Your name", max_chars=verdicts.LONGEST_NAME)
        st.caption("It stands beside each of your verdicts, in this study and wherever it goes.")
        given = st.form_submit_button("Begin", type="primary")
    if given:
        st.session_state["labeller-name"] = name
    name = st.session_state.get("labeller-name", "")
    if not name.strip():
        return None
    try:
        _be(study, verdicts.person(study.store, name, desk))
        st.rerun()  # without the field, which would take the keys
    except NameTaken as taken:
        other = taken.person
        st.warning(
            f"The name {safe(other.name)} is in use already: at another desk, in another tab, or"
            " before this page was loaded anew. If that is you, say so; otherwise add something to"
            " your name."
        )
        if st.button(f"I am this {other.name}", key="labeller-same"):
            _be(study, other)
            st.rerun()
    return None


def _be(study: Study, person: Person) -> None:
    """Label as a person from now on, in this tab."""
    st.session_state["labeller"], st.session_state["labeller-of"] = person, str(study.folder)


def _leave() -> None:
    """Let somebody else label in this tab."""
    for key in ("labeller", "labeller-name", "label-last"):
        st.session_state.pop(key, None)


def _standing(study: Study, sae: str, person: Person, waiting: int) -> None:
    """Say who labels, how much is done, and how far people agree."""
    agreement = queries.verdict_agreement(study.store, sae)
    done = len(queries.verdicts_by(study.store, sae, person.name, person.desk))
    shared = "no feature is judged by two people yet"
    if agreement.shared:
        shared = (
            f"{agreement.same} of {agreement.shared} features that two people or more judged are"
            f" judged alike, alpha {number(agreement.alpha, 2)}"
        )
    left, right = st.columns([6, 1], vertical_alignment="center")
    left.caption(
        f"**{safe(person.name)}** · {done} verdicts given · {waiting} features wait · {shared}"
    )
    if len(study.runs.ids(f"{verdicts.KIND}-")) > MANY:
        st.caption(
            "Each verdict is a small run, and there are many: `workbench compact` merges them, and"
            " this page turns faster."
        )
    right.button("Not me", key="labeller-other", type="tertiary", on_click=_leave)
    if error := st.session_state.pop("label-error", ""):
        st.error(safe(error), icon=":material/error:")
    if last := st.session_state.get("label-last"):
        _what_others_say(study, sae, person, *last)


def _what_others_say(study: Study, sae: str, person: Person, feature: int, answer: str) -> None:
    """Repeat the last verdict, and say what others make of that feature."""
    others = queries.feature_verdicts(study.store, sae, feature, person.name, person.desk)
    name_of = names(study.system)
    parts = []
    for row in others.itertuples():
        value = f" ({name_of.get(row.value, row.value)})" if row.value else ""
        note = f": {row.note}" if row.note else ""
        parts.append(f"{row.labeller} said {SAID[row.verdict]}{value}{note}")
    beside = "; ".join(parts) or "nobody else has judged it"
    st.caption(f"Feature {feature}: you said {safe(answer)}; {safe(beside)}.")


def _whose_turn(queue: pd.DataFrame) -> int | None:
    """Give the feature that is judged now: the one asked for, else the first that waits."""
    asked = st.session_state.get("label-at", st.query_params.get("feature", ""))
    text = str(asked)
    if text.isdecimal() and len(text) < 9:
        return int(text)
    skipped = st.session_state.setdefault("label-skipped", [])
    waiting = [feature for feature in queue.feature.tolist() if feature not in skipped]
    if not waiting and skipped:  # once round: what was passed over comes again
        skipped.clear()
        waiting = queue.feature.tolist()
    return waiting[0] if waiting else None


def _colour(turn: Turn) -> str:
    """Give the colour of the offered label's value."""
    if turn.offered is None:
        return "#c4561a"
    return figures.colours(turn.study.system)[turn.offered.value]


def _head(turn: Turn) -> None:
    """Name the feature and the label that is judged."""
    offered = "No run labels it."
    if turn.offered is not None:
        name = f"{names(turn.study.system)[turn.offered.value]}, {side(turn.offered)}"
        chip = f'<span class="chip" style="background:{_colour(turn)}">{html.escape(name)}</span>'
        offered = f"{chip} say {turn.offered.votes} of {turn.offered.runs} runs of labels"
    st.html(f"<h3>Feature {turn.feature} &nbsp; {offered}</h3>")


def _evidence(turn: Turn, runs: Sequence[str], descriptions: str) -> None:
    """Show what speaks for a feature's labels: contexts, tokens, and the labels with evidence."""
    store = turn.study.store
    left, right = st.columns([1.5, 1], gap="large")
    with left:
        contexts = queries.contexts(store, turn.sae, turn.feature)
        show_contexts(contexts, _colour(turn), CONTEXTS)
    with right:
        if descriptions:
            tokens = queries.token_logits(store, descriptions, turn.feature)
            promoted = tokens[tokens.side == "promoted"].head(TOKENS)
            st.html(f"<b>Promotes</b>{token_chips(promoted)}")
        st.html(_labels(turn, queries.voiced_labels(store, runs, turn.feature)))


def _labels(turn: Turn, rows: pd.DataFrame) -> str:
    """Write the labels that compete, each with its evidence, as HTML."""
    system = turn.study.system
    hue, name_of = figures.colours(system), names(system)
    lines = []
    for row in rows.itertuples():
        colour = hue[row.value] if row.accepted else "#9aa3ac"
        parts = [f"effect {number(row.effect)}", f"q {probability(row.q)}"]
        if pd.notna(row.score):
            parts.insert(1, f"input score {row.score:.2f}")
        if pd.notna(row.output):
            parts.insert(1, f"output score {row.output:+.2f}, null {row.null_high:.2f}")
        standing = "accepts" if row.accepted else "does not accept"
        lines.append(
            f'<div class="related"><b>{html.escape(row.method)}</b> {standing}'
            f' <span class="chip" style="background:{colour}">'
            f"{html.escape(name_of[row.value])}, {side(row)}</span>"
            f"<small>{', '.join(parts)}</small>"
            f'<small dir="auto">{html.escape(show_evidence(row.evidence))}</small></div>'
        )
    return "".join(lines) or "<p>No label competes for it.</p>"


def _keys(turn: Turn) -> None:
    """Show the keys: verdicts, note, undo, next; or the values, while another one is chosen."""
    if st.session_state.get("label-noting"):
        _note(turn)
    if st.session_state.get("label-changing"):
        _values(turn)
        return
    has_label = turn.offered is not None
    with st.container(horizontal=True):
        _verdict_key(turn, "Accept", "A", "accept", not has_label)
        _verdict_key(turn, "No value", "X", "reject")
        st.button(
            "Another value", shortcut="V", on_click=_set, args=("label-changing", True), key="key-v"
        )
        _verdict_key(turn, "Both poles", "B", "both", not has_label)
        _verdict_key(turn, "Unsure", "U", "unsure")
        st.button("Note", shortcut="N", on_click=_set, args=("label-noting", True), key="key-n")
        _undo(turn)
        st.button("Next", shortcut="J", on_click=_skip, args=(turn.feature,), key="key-j")
    if note := st.session_state.get("label-note", ""):
        st.caption(f"Note of your next verdict: {safe(note)}")


def _verdict_key(turn: Turn, title: str, key: str, word: VerdictWord, is_off: bool = False) -> None:
    """Show a key that gives a verdict."""
    st.button(
        title,
        shortcut=key,
        on_click=_give,
        args=(turn, word),
        disabled=is_off,
        key=f"key-{key.lower()}",
        type="primary" if word == "accept" else "secondary",
    )


def _values(turn: Turn) -> None:
    """Show a key a value, and one that turns the side."""
    at = st.session_state.get("label-side", 0)
    side_name = list(SIDES)[at % len(SIDES)]
    st.caption("Which value does the feature carry?")
    with st.container(horizontal=True):
        st.button(
            f"Side: {side_name}",
            shortcut="S",
            on_click=_set,
            args=("label-side", at + 1),
            key="key-s",
        )
        for place, value in enumerate(turn.study.system.values):
            digit = DIGITS[place % len(DIGITS)]
            st.button(
                value.name,
                shortcut=digit if place < len(DIGITS) else f"Shift+{digit}",
                on_click=_give,
                args=(turn, "change", value.id, SIDES[side_name]),
                key=f"key-value-{place}",
                help=value.definition,
            )
        st.button(
            "Back", shortcut="Esc", on_click=_set, args=("label-changing", False), key="key-esc"
        )


def _note(turn: Turn) -> None:
    """Ask for a note, which goes with the next verdict."""

    # Without the sign that closes it, Tab leads to the field at once.
    @st.dialog("Note", dismissible=False)
    def ask() -> None:
        """Show the field; Enter keeps what it holds."""
        with st.form("label-note-form", border=False):
            note = st.text_input(
                "Why (Tab leads here, Enter keeps it)",
                value=st.session_state.get("label-note", ""),
                max_chars=verdicts.LONGEST_NOTE,
            )
            if st.form_submit_button("Keep", type="primary"):
                _set("label-note", note.strip())
                _set("label-noting", False)
                st.rerun()

    ask()


def _undo(turn: Turn) -> None:
    """Show the key that withdraws the last verdict."""
    st.button("Undo", shortcut="Z", on_click=_withdraw, args=(turn,), key="key-z")


def _give(
    turn: Turn, word: VerdictWord, value: str = "", polarity: Literal[-1, 0, 1] | None = None
) -> None:
    """Keep a verdict on the feature, and turn to the next one."""
    labels, offered = "", ""
    if turn.offered is not None:
        labels = turn.offered.run
        offered = "" if word == "unsure" else turn.offered.value
    statement = Statement(
        feature=turn.feature,
        verdict=word,
        value=value or offered,
        polarity=polarity,
        labels=labels,
        note=st.session_state.get("label-note", ""),
    )
    try:
        verdict = verdicts.spoken(turn.study, turn.sae, turn.person, statement)
        verdicts.keep(turn.study, [verdict])
    except WorkbenchError as error:
        st.session_state["label-error"] = str(error)
        return
    named = names(turn.study.system).get(verdict.value, "")
    sentence = SAID[word] + (f" ({named})" if named and word != "reject" else "")
    st.session_state["label-last"] = (turn.feature, sentence)
    _turn_on()


def _withdraw(turn: Turn) -> None:
    """Withdraw the person's last verdict, and turn back to its feature."""
    try:
        verdict = verdicts.withdrawal(turn.study.store, turn.sae, turn.person)
        verdicts.keep(turn.study, [verdict])
    except WorkbenchError as error:
        st.session_state["label-error"] = str(error)
        return
    _turn_on()
    st.session_state["label-at"] = verdict.feature


def _skip(feature: int) -> None:
    """Pass a feature over; it comes again when the queue has been gone through."""
    st.session_state.setdefault("label-skipped", []).append(feature)
    _turn_on()


def _turn_on() -> None:
    """Forget what belongs to the feature that was shown, so that the queue says what comes."""
    for key in ("label-changing", "label-noting", "label-note", "label-side"):
        st.session_state.pop(key, None)
    st.session_state["label-at"] = ""


def _set(key: str, value: Any) -> None:
    """Set a part of the page's state."""
    st.session_state[key] = value
