"""Does an instrument hear what a persona primes? On a real chat model, SmolLM2-135M-Instruct.

Personas prime one value at a time; `workbench hear` ranks the primed value among all. Reach: in
mode `voice`, held less reversed, 0.95; the topic's part and the number scale are findings.
"""

import tempfile
from pathlib import Path

from feature_store.progress import in_terminal
from workbench.study import Study

NAME = "hear"
REACH = 0.95


def main() -> dict:
    """Reach: the primed value ranks at 0.95 in mode voice, held less reversed."""
    with tempfile.TemporaryDirectory() as place, in_terminal("hear") as progress:
        study = Study(Path(place) / "study")
        run = study.hear(model="smollm2", progress=progress)
        rows = study.store.sql(
            'SELECT mode, wording, "order", part, rank, low, high, p, null_high, shift, resolution,'
            " items_share, position_share, agreement, passes FROM hearings WHERE run = ?",
            [run.id],
        )
    rank = run.summary["held_rank"]
    return {
        "name": NAME,
        "value": rank,
        "reach": REACH,
        "holds": rank >= REACH,
        "summary": run.summary,
        "rows": rows.to_dict("records"),
    }
