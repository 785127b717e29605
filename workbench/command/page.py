"""What a study has found, on one page: what the model values, what carries it, what moves with
what, how sure that is, and what was not found.

1. The page is written from the store alone, of the newest run of each kind; a sweep of features and
   one of directions both stand there.
2. Every figure has its interval and n, a null band or a p beside it. What was looked for and not
   found is said in a section of its own.
3. It is Markdown; texts of others are escaped.

Left out: pictures, and what single features read: the app shows both.
"""

import html
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from feature_store import queries
from feature_store.records import Run
from feature_store.terminal import visible
from workbench.study import Study

SHOWN = 8
"""Rows of a table of effects or edges."""
SURE = 0.05
"""Share of false discoveries (q) up to which an effect is named."""

LOOKED_FOR = {
    "sae": "SAE",
    "hearing": "Whether the model is heard",
    "profile": "What the model values",
    "labels": "What carries each value",
    "effects": "What moves with what",
    "graph": "Causes among values",
}
"""Kind of run -> what a whole study says from it."""


def page(study: Study, failed: Mapping[str, str] | None = None) -> str:
    """Write the page of a study, as Markdown.

    `failed` names the stages of a job that made no run, with the reason of each.
    """
    newest = {run.kind: run for run in study.runs.all()}
    written = _Page(study)
    for name, reason in (failed or {}).items():
        written.absent.append(_safe(f"[{name}] made no run: {' '.join(reason.split())}"))
    written.absent += [
        f"{what}: the study has no run of it."
        for kind, what in LOOKED_FOR.items()
        if kind not in newest
    ]
    if sae := newest.get("sae"):
        written.about(sae)
    if hearing := newest.get("hearing"):
        written.hearing(hearing)
    profiles = queries.profile_candidates(study.store, sae.inputs.get("model", "") if sae else "")
    if len(profiles):
        written.profile(study.runs.get(profiles.run.iloc[0]))
    labels = newest.get("labels")
    if labels:
        written.labels(labels)
    for effects in _newest_sweeps(study):
        written.effects(effects, labels)
    if graph := newest.get("graph"):
        written.graph(graph)
    if prediction := newest.get("prediction"):
        written.prediction(prediction)
    return written.text(len(study.runs.all()))


def _newest_sweeps(study: Study) -> list[Run]:
    """Give the newest sweep of each thing that was steered."""
    runs = study.runs.all("effects-")
    return list({_steered(run): run for run in runs}.values())


def _steered(run: Run) -> str:
    """Name what a sweep steered."""
    part = run.config.get("part", "any")
    steered = str(run.config.get("steer", "features"))
    return steered if part == "any" else f"{steered} of the {part}"


def _safe(text: object) -> str:
    """Escape a text of others for Markdown and a terminal."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", html.escape(visible(text), quote=False))


def _word(text: str) -> str:
    """Write a text as one word of a command, inside Markdown's code."""
    return shlex.quote(visible(text)).replace("`", "?")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Write a table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines, ""]


def _between(row: Any, form: str = "+.2f") -> str:
    """Write a figure with its interval."""
    middle = row.effect if hasattr(row, "effect") else row.mean
    return f"{middle:{form}} [{row.low:{form}}, {row.high:{form}}]"


def _score(row: Any) -> str:
    """Write how well a group or direction tells texts apart.

    Stored intervals are cut at 1, which a pole's score may exceed: a cut one is left out.
    """
    is_cut = row.part == "pole" and row.high >= 1
    interval = "" if is_cut else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.score:.2f}{interval}, n {row.n}"


class _Page:
    """A page that is being written."""

    def __init__(self, study: Study) -> None:
        self.study, self.lines = study, [f"# {_safe(study.folder.name)}", ""]
        self.missed: list[str] = []
        """What was looked for and not found."""
        self.absent: list[str] = []
        """What was not looked for, or has no run."""
        self.name = {value.id: value.name for value in study.system.values}

    def _rows(self, query: str, *given: Any) -> pd.DataFrame:
        return self.study.store.sql(query, list(given))

    def add(self, *lines: str) -> None:
        """Add lines, an empty one behind them."""
        self.lines += [*lines, ""]

    def about(self, run: Run) -> None:
        """Say which model and SAE this is."""
        s = run.summary
        recovered = s.get("loss_recovered")
        kept = "" if recovered is None else f", {recovered:.1%} of the cross-entropy recovered"
        self.add(
            f"Model {_safe(s.get('model', '?'))}, residual stream of layer"
            f" {_safe(s.get('layer', '?'))}."
            f" SAE of {_safe(s.get('n_features', '?'))} features,"
            f" {s.get('l0', 0):.0f} active on a token:"
            f" {s.get('fvu', 0):.3f} of the variance unexplained{kept} (held-out text;"
            f" {s.get('tokens', 0):,} tokens read, seed {run.seed}; {run.id})."
        )
        if "fvu_usual" in s:
            self.add(
                "A few tokens, many times as long as the others, hold most of the variance. Without"
                f" the longest hundredth {s['fvu_usual']:.3f} is unexplained."
            )

    def hearing(self, run: Run) -> None:
        """Say whether any way of asking hears the model."""
        rows = self._rows(
            "SELECT * FROM hearings WHERE run = ? AND part <> 'topic'"
            " ORDER BY passes DESC, wording = 'all' DESC, \"order\" = 'both' DESC",
            run.id,
        )
        if rows.empty:
            return
        row = rows.iloc[0]
        self.add("## Is it heard?")
        verdict = "is heard" if row.passes else "is NOT heard: no difference below may be believed"
        self.add(
            f"Asked in mode {_safe(row['mode'])}, the model {verdict}. The value that a persona"
            f" primes ranks at {row['rank']:.2f} [{row.low:.2f}, {row.high:.2f}] (0.5 is chance,"
            f" p {row.p:.2g}, {row['items']} items, {row.templates} templates of personas, seed"
            f" {row.seed}; {run.id}). Differences below {row.resolution:.2g} may not be claimed."
        )
        if not row.passes:
            self.missed.append("No way of asking hears what the model values.")

    def profile(self, run: Run) -> None:
        """Show the model's values, the highest first."""
        rows = queries.profile(self.study.store, run.id)
        base = rows[rows.steering == "base"].sort_values("mean", ascending=False)
        if base.empty:
            return
        voiced = run.config.get("mode") == "voice"
        unit = "nats a token, held less reversed" if voiced else "rating points"
        resolution = float(run.summary.get("resolution", 0.0))
        self.add("## What it values")
        self.lines += _table(
            ("value", f"above or below the mean [{unit}]", "n"),
            (
                (self.name.get(row.value, row.value), _between(row), str(row.n))
                for row in base.itertuples()
            ),
        )
        spread = float(base["mean"].max() - base["mean"].min())
        limit = f" The smallest difference that may be claimed is {resolution:.2g}." * bool(
            resolution
        )
        self.add(f"95 % intervals over contexts; seed {run.seed}; {run.id}.{limit}")
        if not ((base.low > 0) | (base.high < 0)).any():
            self.missed.append("No value of its profile leaves 0 beyond its interval.")
        if resolution and spread < resolution:
            self.missed.append("Its profile is flat, as far as this instrument tells.")

    def labels(self, run: Run) -> None:
        """Show what carries each value."""
        counts = self._rows(
            "SELECT value, coalesce(part, '') AS part, count(*) AS n FROM labels"
            " WHERE run = ? AND accepted GROUP BY ALL",
            run.id,
        )
        best = queries.accepted_labels(self.study.store, run.id, "").drop_duplicates("value")
        best = best.set_index("value")

        def count(value: str, part: str) -> str:
            """Count the features of a value's part."""
            here = counts[(counts.value == value) & (counts.part == part)]
            return str(int(here.n.sum())) if len(here) else "-"

        def first(value: str) -> str:
            """Say which feature carries a value best, and how surely."""
            if value not in best.index:
                return "-"
            row = best.loc[value]
            if pd.isna(row.score):
                return f"{row.feature}: {row.effect:+.2f}, n {row.n}"
            return f"{row.feature}: {_between(row)}, AUROC {row.score:.2f}, n {row.n}"

        self.add("## What carries each value")
        self.lines += _table(
            ("value", "features: topic", "pole", "the best to steer: difference [SD]"),
            (
                (self.name[value], count(value, "topic"), count(value, "pole"), first(value))
                for value in self.study.system.ids
            ),
        )
        self.add(
            "Features with an accepted label (topic: of texts that speak of the value; pole: of"
            " texts on its side). The difference is between texts with and without the value, with"
            " its 95 % interval; the AUROC is of held-out texts (0.5 is chance); n texts carry it."
            f" {_safe(run.summary.get('texts', '?'))} labelled texts, seed {run.seed}; {run.id}."
        )
        self._units(run)
        without = [value for value in self.study.system.ids if value not in set(counts.value)]
        if without:
            self.missed.append(f"No feature carries {self._listed(without)}.")
        if not (counts.part == "pole").any():
            self.missed.append("No feature tells the sides of a value apart; labels are of topics.")

    def _units(self, run: Run) -> None:
        """Show how well groups of features and directions tell texts apart."""
        units = self._rows(
            "SELECT * FROM value_units WHERE run = ? AND accepted ORDER BY score DESC", run.id
        ).drop_duplicates(["unit", "value", "part"])
        if units.empty:
            self.missed.append("No group or direction tells held-out texts of a value apart.")
            return
        cells = {(row.value, row.unit, row.part): _score(row) for row in units.itertuples()}
        columns = [(unit, part) for unit in ("group", "direction") for part in ("topic", "pole")]
        self.lines += _table(
            ("value", *(f"{unit}: {part}" for unit, part in columns)),
            (
                (self.name[value], *(cells.get((value, *column), "-") for column in columns))
                for value in self.study.system.ids
            ),
        )
        self.add(
            "How well groups of features, and directions, tell held-out texts apart: AUROC with its"
            " 95 % interval and the n that carry the value (0.5 is chance; q < 0.05). Of a pole"
            " whose texts come in no pairs, what the same scores tell of other values' poles is"
            " taken off and 0.5 added: that is no AUROC and may exceed 1, and it stands without an"
            " interval where the stored"
            " one was cut."
        )

    def _listed(self, values: Iterable[str]) -> str:
        return ", ".join(self.name.get(value, value) for value in values)

    def effects(self, run: Run, labels: Run | None) -> None:
        """Show what moved when values were steered."""
        cells = queries.matrix(self.study.store, run.id)
        diagonal = cells[cells.source == cells.target]
        outside = diagonal[(diagonal.effect > diagonal.null_high) & (diagonal.low > 0)]
        others = cells[cells.source != cells.target]
        sure = others[
            (others.q < SURE)
            & ((others.effect > others.null_high) | (others.effect < others.null_low))
        ].sort_values("effect", key=abs, ascending=False)
        steered = _safe(_steered(run))
        self.add(f"## What moves with what: {steered}")
        heard = run.summary.get("heard")
        warning = (
            " **The instrument does not hear this model: none of this may be believed.**"
            if heard == "no"
            else ""
        )
        if labels and run.inputs["labels"] != labels.id:
            warning += f" It steered by {run.inputs['labels']}, not by the labels above."
        banded = bool(cells.null_high.notna().any())
        raised = self._raised(outside, banded)
        self.add(
            f"{len(diagonal)} values were steered at equal damage (at most"
            f" {run.summary.get('delta', 0.1):.2g} nats a token). {raised}."
            f" {len(sure)} of {len(others)} side effects lie outside the null band with q <"
            f" {SURE}.{warning} The band holds 95 % of what random controls do; a prompt stands"
            " beside steering in `workbench compare`."
        )
        if len(sure):
            self.lines += _table(
                ("steered", "moves", "effect [unsteered SD]", "null band", "q"),
                (
                    (
                        self.name[row.source],
                        self.name[row.target],
                        _between(row),
                        f"{row.null_low:+.2f} to {row.null_high:+.2f}",
                        f"{row.q:.2g}",
                    )
                    for row in sure.head(SHOWN).itertuples()
                ),
            )
        circle = run.summary.get("circle_spearman")
        along = (
            ""
            if circle is None
            else f" Along Schwartz's circle {circle:+.2f} (p {run.summary['circle_p']:.2g})."
        )
        self.add(f"n = {cells.n.max()} contexts, seed {run.seed}; {run.id}.{along}")
        if banded and outside.empty:
            self.missed.append(
                f"Steering {steered}, no value leaves the null band of its controls."
            )
        if banded and sure.empty:
            self.missed.append(f"Steering {steered}, no side effect is told from chance.")

    def _raised(self, outside: pd.DataFrame, banded: bool) -> str:
        """Say which values rise when they are steered; `banded`: controls were steered too."""
        if not banded:
            return "No control was steered beside them, so no effect can be told from chance"
        if outside.empty:
            return "None of them rises by it beyond the band of random controls"
        rises = (f"{self.name[row.source]} {_between(row)}" for row in outside.itertuples())
        return f"Beyond the band of random controls rise by it (unsteered SD): {', '.join(rises)}"

    def graph(self, run: Run) -> None:
        """Show the edges of the causal graph."""
        edges = queries.edges(self.study.store, run.id)
        present = edges[edges.present].sort_values("weight", key=abs, ascending=False)
        self.add("## Causes among values")
        if present.empty:
            self.add(f"No edge among {len(edges)} ordered pairs ({run.id}).")
            self.missed.append("No value was found to cause another.")
            return
        self.lines += _table(
            ("cause", "effect", "weight", "q"),
            (
                (
                    self.name[row.source],
                    self.name[row.target],
                    f"{row.weight:+.2f} [{row.low:+.2f}, {row.high:+.2f}]",
                    f"{row.q:.2g}",
                )
                for row in present.head(SHOWN).itertuples()
            ),
        )
        strongest = f", the {SHOWN} strongest above" if len(present) > SHOWN else ""
        level = run.summary.get("level", "")
        doubt = (
            " A graph of one direction a value cannot tell what a direction pushes from what its"
            " value causes."
            if level == "direction"
            else ""
        )
        self.add(
            f"{len(present)} of {len(edges)} ordered pairs{strongest}, n ="
            f" {_safe(run.summary.get('contexts', '?'))}"
            f" contexts, seed {run.seed}; {run.id}.{doubt}"
        )

    def prediction(self, run: Run) -> None:
        """Say how well joint steerings are predicted."""
        rows = self._rows(
            "SELECT * FROM prediction_scores WHERE run = ? AND value = 'all' ORDER BY model DESC",
            run.id,
        )
        self.add("## Joint steerings")
        for row in rows.itertuples():
            self.add(
                f"{row.n} joint steerings that no fit has seen, predicted by the model {row.model}:"
                f" R2 {row.r2:.2f} [{row.low:.2f}, {row.high:.2f}], chance to {row.chance:.2f}"
                f" ({run.id})."
            )
            if not row.low > max(0.0, row.chance):
                self.missed.append(f"Joint steerings are not predicted by the model {row.model}.")

    def text(self, runs: int) -> str:
        """Give the page, with what was not found and what it is made of."""
        self.add("## What was not found")
        if self.missed:
            self.add(*(f"- {line}" for line in self.missed))
        elif runs:
            missing = "; what could not be looked for stands below" if self.absent else ""
            self.add(f"Whatever was looked for was found{missing}.")
        else:
            self.add("Nothing was looked for.")
        if self.absent:
            self.add("## What is missing")
            self.add(*(f"- {line}" for line in self.absent))
        folder = str(self.study.place)
        self.add(
            f"The study has {runs} runs; the page is of the newest. `workbench app {_word(folder)}`"
            " shows the rest."
        )
        return "\n".join(self.lines).rstrip() + "\n"
