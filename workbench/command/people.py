"""What `workbench verdicts` and `workbench compact` do and say: people's word on features.

Left out: giving a single verdict, which is the verb `verdict`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from feature_store import queries
from feature_store.records import figures
from workbench.study import Study


class Said(NamedTuple):
    """What a command says."""

    lines: Sequence[str]
    """What came of it."""
    mistakes: Sequence[str] = ()
    """What was left out, and why."""


def verdicts(study: Study, flags: Mapping[str, Any]) -> Said:
    """Write verdicts to a file, read them from one, or say who gave how many."""
    if flags["export"] is not None:
        written = study.export_verdicts(flags["export"])
        return Said([f"{flags['export']}  {written} verdicts, withdrawn ones as well"])
    if flags["table"] is not None:
        became = study.import_verdicts(
            flags["table"], flags["labeller"], flags["desk"], flags["sae"]
        )
        lines = [became.account.line()]
        if became.run is not None:
            lines.append(f"{became.run.id}  {figures(became.run.summary)}")
        return Said(lines, became.lines)
    sae = study.resolve("sae", flags["sae"]).id
    lines = []
    for person in queries.labellers(study.store).itertuples():
        time = f"{person.first:%Y-%m-%d %H:%M} to {person.last:%Y-%m-%d %H:%M} UTC"
        lines.append(f"{person.labeller}  desk {person.desk}  {person.verdicts} verdicts  {time}")
    agreement = queries.verdict_agreement(study.store, sae)
    alpha = f"alpha {agreement.alpha:.2f}" if agreement.alpha == agreement.alpha else "no alpha yet"
    lines.append(
        f"{agreement.answered} features answered, {agreement.shared} by two people or more,"
        f" {agreement.same} of them alike, {alpha}"
    )
    return Said(lines)


def compacted(study: Study) -> Said:
    """Merge the runs of verdicts, and say what became of them."""
    done = study.compact()
    lines = []
    if done.finished:
        lines.append(f"{done.finished} verdicts that a killed process had begun are kept now")
    if done.run is None:
        lines.append("nothing to merge: the verdicts stand in one run, or there are none")
    else:
        lines.append(f"{done.run.id}  {done.verdicts} verdicts of {done.merged} runs, verified")
    return Said(lines, done.lines)
