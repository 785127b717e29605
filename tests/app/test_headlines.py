"""The three sentences that open the app are true of the store, also where nothing was found."""

import pandas as pd
import pytest

from workbench.views import headlines

NAMES = {"power": "Power", "universalism": "Universalism", "tradition": "Tradition"}


def profile(*rows):
    return pd.DataFrame(
        [(value, mean, mean - 0.1, mean + 0.1, 6) for value, mean in rows],
        columns=["value", "mean", "low", "high", "n"],
    )


def cells(effect=-4.5, q=0.001, band=0.2):
    return pd.DataFrame(
        [
            ("power", "power", 9.0, 8.0, 10.0, 0.001, -band, band, 12),
            ("power", "universalism", effect, effect - 0.1, effect + 0.2, q, -band, band, 12),
            ("power", "tradition", 0.1, 0.0, 0.2, 0.001, -band, band, 12),
        ],
        columns=["source", "target", "effect", "low", "high", "q", "null_low", "null_high", "n"],
    )


def edges(*present):
    pairs = [("power", "universalism", -0.5), ("tradition", "power", 0.2)]
    return pd.DataFrame(
        [(s, t, w, (s, t) in present) for s, t, w in pairs],
        columns=["source", "target", "weight", "present"],
    )


@pytest.mark.parametrize(
    ("rows", "summary", "said"),
    [
        (
            [("power", -0.5), ("universalism", 0.3), ("tradition", 0.05)],
            {},
            "The model holds Universalism (+0.30 [+0.20, +0.40]) above, and Power (-0.50 [-0.60,"
            " -0.40]) below the mean of its values [points; n 6].",
        ),
        ([("power", 0.5)], {}, "holds Power (+0.50 [+0.40, +0.60]) above the mean"),
        ([("power", 0.05), ("tradition", -0.05)], {}, "all 2 intervals hold 0."),
        ([("power", 0.3), ("tradition", -0.05)], {"resolution": 0.4}, "no difference reaches 0.4"),
        ([("power", 3.0)], {"heard": "no"}, "does not hear the model"),
    ],
)
def test_a_profile_says_what_stands_out_or_that_nothing_does(rows, summary, said):
    line = headlines.about_profile(profile(*rows), summary, NAMES, "points")
    assert said in line.text
    assert line.page == "profiles"


@pytest.mark.parametrize(
    ("labels", "swept", "heard", "said"),
    [
        (210, cells(), "yes", "210 features carry values. Turning Power up lowers Universalism by"),
        (210, cells(), "yes", "4.50 SD [4.30, 4.60; n 12]."),
        (1, cells(effect=2.0), "yes", "1 feature carries a value. Turning Power up raises"),
        (210, cells(q=0.2), "yes", "moves no other one beyond random controls."),
        (210, cells(effect=0.15, band=0.2), "yes", "moves no other one"),
        (210, cells(), "no", "does not hear the model, so no side effect can be claimed."),
        (210, cells(band=float("nan")), "yes", "No control was steered, so no side effect can"),
        (0, None, "yes", "No feature carries a value."),
    ],
)
def test_the_strongest_side_effect_that_survives_is_told(labels, swept, heard, said):
    line = headlines.about_effects({"features_labelled": labels}, swept, NAMES, heard)
    assert said in line.text


def test_causal_links_are_counted_and_named():
    assert "No causal link" in headlines.about_graph(edges(), NAMES, 6).text
    line = headlines.about_graph(edges(("power", "universalism")), NAMES, 6)
    assert line.text == (
        "1 causal link was found among 2 ordered pairs (n 6): Power lowers Universalism."
    )


def test_names_of_others_stay_text():
    names = {"power": "<script>alert(1)</script>"}
    line = headlines.about_profile(profile(("power", 0.5)), {}, names, "points")
    assert "<script>" not in headlines.as_html([line])
