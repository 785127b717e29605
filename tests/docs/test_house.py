"""The house stays tidy: what `python -m benchmarks house` counts is held where it was brought."""

import pytest

from benchmarks import house
from benchmarks._modules import read_modules


@pytest.fixture(scope="module")
def figures():
    """Every figure but mypy's, which `make types` holds."""
    return house.count_figures(read_modules(house.ROOT, house.PACKAGES))


@pytest.mark.parametrize("kind", [kind for kind in house.REACH if kind != "mypy"])
def test_a_figure_of_the_house_stays_within_its_reach(kind, figures):
    assert figures[kind] <= house.REACH[kind], (
        f"{kind}: `python -m benchmarks.house workbench sae_training feature_store` lists them"
    )


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("banned name", "told = 1"),
        ("banned name", "def f(which): pass"),
        ("no docstring", "def f(): pass"),
        ("many parameters", "def f(a, b, c, d, e, f, g): pass"),
        ("long line", "x = " + "1" * 100),
        ("fmt: skip", "x = 1  # fmt: " + "skip"),
        (
            "positional record",
            "@dataclass\nclass R:\n    a: int\n    b: int\n    c: int\n    d: int\nR(1, b=2)",
        ),
    ],
)
def test_an_offence_is_seen(kind, text, tmp_path):
    (tmp_path / "workbench" / "room").mkdir(parents=True)
    (tmp_path / "workbench" / "room" / "module.py").write_text(text)
    offences = house.find_offences(read_modules(tmp_path, ("workbench",)))
    assert kind in {offence.kind for offence in offences}
