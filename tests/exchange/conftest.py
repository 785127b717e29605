"""A small study with everything that can be exported: an SAE, descriptions, labels."""

import pytest

from workbench.study import Study

SAE = {"model": "organism", "documents": 100, "tokens": 8_192, "n_features": 64, "k": 8}
LABELS = (
    {"feature": 3, "value": "power", "polarity": 1, "output": 0.4},
    {"feature": 9, "value": "power", "polarity": 1, "output": 0.1},
    {"feature": 5, "value": "security", "polarity": -1, "output": 0.2},
)


@pytest.fixture(scope="session")
def complete(tmp_path_factory):
    """The study; tests that change it copy its folder."""
    study = Study(tmp_path_factory.mktemp("exchange") / "study")
    sae_run = study.train(**SAE, cache=False)
    study.describe(top=5)

    def build(work):
        measured = {"beside": 0.1, "null_high": 0.1, "n": 6, "dose": 0.1, "seed": 0}
        rows = [label | {"part": "pole", "method": "contrast"} for label in LABELS]
        evidence = {"effect": 1.0, "low": 0.5, "high": 1.5, "p": 0.0, "q": 0.0, "score": 0.9}
        said = {"gain": 0.2, "n": 50, "accepted": True, "evidence": "{}"}
        work.table(
            "labels",
            [
                {name: value for name, value in row.items() if name != "output"} | evidence | said
                for row in rows
            ],
        )
        scores = [
            {name: label[name] for name in ("feature", "value", "polarity", "output")}
            | {"low": 0.0, "high": 1.0}
            | measured
            for label in LABELS
        ]
        work.table("output_scores", scores)
        return {}

    study.make("labels", {"labeler": "contrast"}, {"sae": sae_run.id}, build, seed=0)
    return study


@pytest.fixture
def copied(complete, tmp_path):
    """The same study in a folder of its own."""
    import shutil

    study = Study(shutil.copytree(complete.folder, tmp_path / "copy"))
    study._models = complete._models  # loaded once
    return study
