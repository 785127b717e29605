"""Keys, scores and item files of the PVQ, against hand counts, 76 people's answers, and broken
files."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from feature_store import registry
from feature_store.errors import BadInput, Incompatible, NotFound
from tests.helpers.instruments import settings as invented
from workbench.instruments.pvq import keys
from workbench.instruments.pvq.item_files import read_items
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.questionnaire import open_instrument
from workbench.measuring.questions import questions
from workbench.statistics import circle

PEOPLES_COLUMNS = {
    "self-direction": (21, 44, 63, 107),
    "stimulation": (18, 128, 129),
    "hedonism": (1, 46, 149),
    "achievement": (32, 47, 163, 201),
    "power": (48, 58, 183),
    "security": (3, 16, 122, 126, 161),
    "conformity": (33, 120, 212, 217),
    "tradition": (68, 87, 171, 203),
    "benevolence": (76, 155, 166, 210),
    "universalism": (28, 139, 177, 202, 206, 218),
}
"""Which columns of the 76 people's table are the PVQ-40's items, by value (the other 179 are
items that models wrote)."""
SCALE = (
    "Not Like Me at All",
    "Not Like Me",
    "A Little Like Me",
    "Somewhat Like Me",
    "Like Me",
    "Very Much Like Me",
)


@pytest.mark.parametrize(
    ("name", "items", "system"),
    [("pvq21", 21, "schwartz10"), ("pvq40", 40, "schwartz10"), ("pvq-rr", 57, "schwartz19")],
)
def test_every_item_has_one_value_and_every_value_its_items(name, items, system):
    key = keys.KEYS[name]
    assert sorted(number for numbers in key.values() for number in numbers) == list(
        range(1, items + 1)
    )
    assert tuple(key) == registry.get("values", system).ids


def test_the_nineteen_fold_into_the_ten():
    ten = keys.fold(keys.PVQ_RR)
    assert set(ten) == set(registry.get("values", "schwartz10").ids)
    assert ten["tradition"] == (7, 18, 33, 38, 40, 54)  # with Humility
    assert ten["power"] == (6, 12, 20, 29, 41, 44)
    assert len(ten["universalism"]) == 9
    assert not set(keys.PVQ_RR["face"]) & {number for numbers in ten.values() for number in numbers}


def test_scores_are_means_and_centring_takes_the_mean_of_all_items():
    key = {"a": (1, 3), "b": (2,)}
    answers = np.array([[1.0, 6.0, 2.0, 3.0], [np.nan, 5.0, 4.0, 3.0], [2.0, np.nan, 2.0, 2.0]])
    scores = keys.score(answers, key)
    assert np.allclose(scores, [[1.5, 6], [4, 5], [2, np.nan]], equal_nan=True)
    assert np.allclose(
        keys.centre(scores, answers), [[-1.5, 3], [0, 1], [0, np.nan]], equal_nan=True
    )  # item 4 counts in the mean
    with pytest.raises(BadInput, match="between 1 and 6, got 0 to 6"):
        keys.score(np.array([[0.0, 6.0, 1.0]]), key)
    with pytest.raises(BadInput, match="key goes up to item 3, the answers to item 2"):
        keys.score(np.ones((1, 2)), key)


def test_the_european_social_survey_is_coded_the_other_way_round():
    assert np.allclose(
        keys.recode_ess(np.array([[1.0, 6.0, 2.0, 77.0, 9.0]])),
        [[6, 1, 5, np.nan, np.nan]],
        equal_nan=True,
    )
    with pytest.raises(BadInput, match="codes answers from 1, got 0"):
        keys.recode_ess(np.array([[0.0]]))


def test_of_76_people_the_values_lie_on_the_circle(shared):
    table = pd.read_csv(shared / "data/survey/pvq40_people.csv")
    answers = np.full((len(table), 40), np.nan)
    for value, columns in PEOPLES_COLUMNS.items():
        for number, column in zip(keys.PVQ40[value], columns, strict=True):
            answers[:, number - 1] = table[f"N{column}"].map(
                {word: rank for rank, word in enumerate(SCALE, 1)}
            )
    assert answers.shape == (76, 40)
    assert np.isfinite(answers).all()
    scores = keys.score(answers, keys.PVQ40)
    centred = keys.centre(scores, answers)
    # Each item counts once in the mean of all, so centred values, weighted by their items, sum to
    # nothing.
    assert (
        np.abs(centred @ np.array([len(numbers) for numbers in keys.PVQ40.values()])).max() < 1e-9
    )
    assert not np.allclose(centred.std(1), 1)
    means = dict(zip(keys.PVQ40, centred.mean(0), strict=True))
    # The order found in most countries (Schwartz & Bardi 2001), best liked first.
    order = [
        "benevolence",
        "universalism",
        "self-direction",
        "security",
        "conformity",
        "achievement",
        "hedonism",
        "stimulation",
        "tradition",
        "power",
    ]
    assert stats.spearmanr([-means[value] for value in order], range(10)).statistic > 0.6
    assert min(means, key=means.__getitem__) == "power"
    theta = circle.angles(registry.get("values", "schwartz10"), tuple(keys.PVQ40))
    told = circle.congruence(centred, theta, 999, 0)
    assert told.estimate > 0.8
    assert told.p < 0.01
    assert circle.agreement(centred, theta, 999, 0).p < 0.01


def test_of_569_people_security_alone_is_displaced(shared):
    """Figures of the design notes: congruence .923, R2 .61, p .0002 (ten equal steps)."""
    people = json.loads((shared / "data/value_portrait/value.json").read_text())
    values = registry.get("values", "schwartz10").ids
    scores = np.array(
        [
            [person["pvq"][value.title().replace("-", "_")] for value in values]
            for person in people.values()
        ]
    )
    assert scores.shape == (569, 10)
    theta = np.arange(10) * 2 * np.pi / 10
    found = circle.congruence(scores, theta, 4999, 0)
    assert found.estimate == pytest.approx(0.923, abs=5e-4)
    agreed = circle.agreement(scores, theta, 4999, 0)
    assert agreed.estimate == pytest.approx(0.61, abs=0.005)
    assert agreed.p < 5e-4
    at = circle.place(circle.correlations(scores))
    ring = [
        values[k]
        for k in np.argsort(np.arctan2(at[:, 1], at[:, 0]))
        if values[k] not in ("security", "tradition")
    ]
    start = ring.index("self-direction")
    ring = ring[start:] + ring[:start]
    expected = [value for value in values if value not in ("security", "tradition")]
    assert ring in (expected, expected[:1] + expected[:0:-1])


def planted(n, seed, noise=0.6):
    """Respondents whose values lie on a circle of ten."""
    rng, theta = np.random.default_rng(seed), np.arange(10) * 2 * np.pi / 10
    pull = rng.normal(size=(n, 2))
    return pull @ np.stack([np.cos(theta), np.sin(theta)]) + noise * rng.normal(size=(n, 10)), theta


def test_a_planted_circle_is_found_and_no_circle_is_not():
    scores, theta = planted(400, 0)
    for told in (
        circle.congruence(scores, theta, 499, 0),
        circle.agreement(scores, theta, 499, 0),
    ):
        assert told.estimate > 0.95
        assert told.p == pytest.approx(0.002)
        assert told.n == 400
    assert (
        circle.congruence(scores[:, np.random.default_rng(1).permutation(10)], theta, 499, 0).p
        > 0.05
    )
    ps = [
        circle.congruence(np.random.default_rng(seed).normal(size=(40, 10)), theta, 199, seed).p
        for seed in range(60)
    ]
    assert 0.3 < np.mean(ps) < 0.7
    assert np.mean(np.array(ps) <= 0.05) < 0.17


def test_the_plane_is_that_of_the_distances():
    scores, theta = planted(5000, 1, noise=0.0)
    at = circle.place(circle.correlations(scores))
    assert np.allclose(np.hypot(*at.T), 1, atol=0.05)
    assert circle.congruence(scores, theta, 100, 0).estimate > 0.999


def test_a_value_that_does_not_vary_has_no_place():
    scores, theta = planted(50, 2)
    scores[:, 3] = 4.0
    assert np.isnan(circle.congruence(scores, theta, 100, 0).estimate)
    with pytest.raises(BadInput, match="three respondents"):
        circle.correlations(scores[:2])


THREE = {1: "power", 2: "hedonism", 3: "power"}
ROWS = [
    {"number": 1, "text": "first  item", "value": "Power"},
    {"number": 3, "text": "third", "value": ""},
    {"number": 2, "text": "second, “quoted”"},
]


def written(folder, suffix, rows=ROWS, encoding="utf-8"):
    file = folder / f"items{suffix}"
    if suffix in (".csv", ".tsv"):
        with file.open("w", encoding=encoding, newline="") as out:
            columns = dict.fromkeys(column for row in rows for column in row)
            writer = csv.DictWriter(out, list(columns), delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".jsonl":
        file.write_text("\n".join(map(json.dumps, rows)), encoding=encoding)
    elif suffix == ".toml":
        file.write_text(
            "\n".join(
                "[[items]]\n"
                + "\n".join(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in row.items())
                for row in rows
            ),
            encoding=encoding,
        )
    else:
        file.write_text(json.dumps(rows), encoding=encoding)
    return file


def read(file):
    return read_items(file, THREE, 6, registry.get("values", "schwartz10").resolve)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".toml"])
def test_every_format_gives_the_same_items(tmp_path, suffix):
    assert read(written(tmp_path, suffix)) == {1: "first item", 2: "second, “quoted”", 3: "third"}


def test_a_byte_order_mark_an_id_column_and_an_object_are_read(tmp_path):
    assert read(written(tmp_path, ".csv", encoding="utf-8-sig"))[1] == "first item"
    assert (
        read(
            written(tmp_path, ".csv", [{"ID": n, "Text": "t", "Scale": "1-6"} for n in (1, 2, 3)])
        )[2]
        == "t"
    )
    (tmp_path / "o.json").write_text('{"1": "x", "2": "y", "3": "z"}')
    assert read(tmp_path / "o.json") == {1: "x", 2: "y", 3: "z"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (ROWS[:2], "the file lacks item 2"),
        ([*ROWS, {"number": 2, "text": "again"}], "gives more than once item 2"),
        ([*ROWS, {"number": 9, "text": "ninth"}], "has besides item 9"),
        ([*ROWS[:2], {"number": 2, "text": " "}], "without a text item 2"),
        (
            [*ROWS[:2], {"number": 2, "text": "x", "value": "power"}],
            "another value than the key item 2",
        ),
        (
            [*ROWS[:2], {"number": 2, "text": "x", "scale": "1-7"}],
            "another scale than 1 to 6 item 2",
        ),
        (
            [*ROWS[:2], {"number": "two", "text": "x"}],
            "entry 3 needs the item's number, a whole number, got 'two'",
        ),
        ([{"nr": 1, "statement": "x"}], "every entry needs `number` .* got nr, statement"),
        ([], "every entry needs|is empty"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_that_does_not_fit_is_refused_with_its_items(tmp_path, rows, told, suffix):
    with pytest.raises(BadInput, match=told):
        read(written(tmp_path, suffix, rows))


def test_files_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(BadInput, match="holds a NUL"):
        read(written(tmp_path, ".csv", encoding="utf-16-be"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(BadInput, match="is not valid JSON"):
        read(tmp_path / "broken.json")
    (tmp_path / "twice.json").write_text('[{"number": 1, "text": "a", "Text": "b"}]')
    with pytest.raises(BadInput, match="one of them twice"):
        read(tmp_path / "twice.json")
    with pytest.raises(BadInput, match=r"must be one of \.csv"):
        read(tmp_path / "items.xlsx")
    with pytest.raises(NotFound, match="There is no table"):
        read(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        read(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("name", "system", "values"),
    [
        ("pvq21", "schwartz10", 10),
        ("pvq40", "schwartz10", 10),
        ("pvq-rr", "schwartz10", 10),
        ("pvq-rr", "schwartz19", 19),
    ],
)
@pytest.mark.parametrize("mode", ["generate", "logprob"])
def test_who_agrees_with_one_value_alone_has_it_on_top(tmp_path, name, system, values, mode):
    spoken = registry.get("values", system)
    ready = open_instrument(name, invented(name, tmp_path), spoken)
    wanted = ready.instrument.items[1].value
    asked = questions(ready.instrument, [""], ready.plugin.wordings(ready.instrument, False))
    told = administer(
        Devoted(wanted),
        ready.instrument,
        asked,
        "base",
        lambda *_: None,
        elicitation=Elicitation(mode=mode),
    )
    rows = ready.plugin.score(told, ready.instrument, spoken, 200, 0)
    raw, centred = (
        {row.value: row.mean for row in rows if row.centred == kind} for kind in (False, True)
    )
    assert len(raw) == values
    assert raw[wanted] == pytest.approx(6)
    assert all(mean == pytest.approx(1) for value, mean in raw.items() if value != wanted)
    share = sum(item.value == wanted for item in ready.instrument.items) / len(
        ready.instrument.items
    )  # Face counts in the mean of all
    assert centred[wanted] == pytest.approx(5 - 5 * share)
    assert len(ready.instrument.items) == {"pvq21": 21, "pvq40": 40, "pvq-rr": 57}[name]


class Devoted:
    """Who is very much like every portrait of one value, and not at all like the others."""

    name = "devoted"

    def __init__(self, value):
        self.value = value

    def fits(self, asked, room):
        return [True] * len(asked)

    def score(self, asked, length, progress):
        return [
            tuple(0.0 if answer == own else -50.0 for answer in q.answers)
            for q, own in zip(asked, self.answer(asked, 0, 0.0, progress), strict=True)
        ]

    def answer(self, asked, new_tokens, temperature, progress):
        return ["6" if (q.item.value == self.value) != q.turned else "1" for q in asked]


def test_without_items_a_researcher_is_told_what_to_bring():
    with pytest.raises(
        BadInput, match=r"PVQ-40 ships without its 40 items, .* --settings items=ITEMS.csv"
    ):
        open_instrument("pvq40", (), registry.get("values", "schwartz10"))


def test_values_of_another_instrument_are_refused_before_anything_is_asked(tmp_path):
    with pytest.raises(
        Incompatible, match="pvq40 measures schwartz10, this study speaks schwartz19"
    ):
        open_instrument("pvq40", invented("pvq40", tmp_path), registry.get("values", "schwartz19"))
    file = tmp_path / "rr.csv"
    file.write_text(
        "number,text,value\n"
        + "".join(f"{n},x,{'Face' if n in (9, 24, 49) else ''}\n" for n in range(1, 58))
    )
    ready = open_instrument("pvq-rr", (f"items={file}",), registry.get("values", "schwartz10"))
    assert [item.id for item in ready.instrument.items if not item.value] == [
        "pvq-rr-9",
        "pvq-rr-24",
        "pvq-rr-49",
    ]
