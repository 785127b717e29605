"""Say what a feature carries, as a person does: each verdict is a small run of its own.

1. A verdict accepts a label, rejects it, names another value, says that both poles count, or is
   unsure. It carries a name, a desk, a note and the time (`features/verdicts.py`).
2. Nothing is overwritten. Of a person's verdicts on a feature the last one counts; `undo` withdraws
   one, and itself stays in the record.

Left out: the queue of what to judge next, which the app's page Label and `Study.label_queue` give.
"""

import dataclasses
from typing import Annotated, Literal

from feature_store import queries
from feature_store.bounds import Between
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, VerdictWord
from workbench.features import verdicts
from workbench.features.verdicts import Statement
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class VerdictSettings:
    """Who says what of which feature."""

    verdict: VerdictWord = "accept"
    """What is said: the label is right (accept) or wrong, and the feature carries no value
    (reject); it carries another value (change); the value on both sides (both); unsure; or an
    earlier verdict is withdrawn (undo)."""
    feature: Annotated[int, Between(0, 10**9)] = -1
    """The feature, by its 0-based index."""
    value: str = ""
    """Value that it carries; empty: that of its best label."""
    side: Literal["", "held", "rejected", "both"] = ""
    """Whether it is active where the value is held or where it is rejected; empty: as the label
    says."""
    labeller: str = ""
    """Name of who says so."""
    desk: str = ""
    """What tells two people of the same name apart; empty: this machine's account."""
    note: str = ""
    """Why."""
    withdraws: str = ""
    """Id of the verdict that an undo withdraws; empty: the person's last one."""
    labels: str = ""
    """Run of labels that the verdict speaks of; empty: the newest that labels the feature."""
    sae: str = "latest"
    """Run of the SAE."""


def run(study: Workspace, settings: VerdictSettings, progress: Progress) -> Run:
    """Make a run of kind `verdicts`: what one person says of one feature."""
    sae = study.resolve("sae", settings.sae).id
    speaker = verdicts.person(study.store, settings.labeller, settings.desk)
    if settings.verdict == "undo":
        verdict = verdicts.withdrawal(study.store, sae, speaker, settings.withdraws, settings.note)
        return verdicts.keep(study, [verdict])
    if settings.feature < 0:
        raise BadInput("A verdict speaks of a feature: give --feature NUMBER.")
    labels = settings.labels and study.resolve("labels", settings.labels).id
    labels = labels or _newest_labels(study, sae, settings.feature)
    sides: dict[str, Literal[-1, 0, 1]] = {"held": 1, "rejected": -1, "both": 0}
    statement = Statement(
        feature=settings.feature,
        verdict=settings.verdict,
        value=settings.value,
        polarity=sides.get(settings.side),
        labels=labels,
        note=settings.note,
    )
    verdict = verdicts.spoken(study, sae, speaker, statement)
    progress("keeping the verdict", 1, 1)
    return verdicts.keep(study, [verdict])


def _newest_labels(study: Workspace, sae: str, feature: int) -> str:
    """Give the newest run that labels a feature; the newest of all, or none, where none does."""
    runs = queries.label_runs(study.store, sae)
    runs = list(runs.run[~runs.labeler.isin(queries.JUDGED)])
    rows = queries.voiced_labels(study.store, runs, feature)
    naming = set(rows.run[rows.accepted.astype(bool)])
    return next((run for run in runs if run in naming), runs[0] if runs else "")
