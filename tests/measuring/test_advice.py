"""Two instruments: decisions in scored situations, and ValueBench's advice rated by a judge;
each against planted leanings."""

import csv
import json
import re
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from feature_store.records import Action, Scenario
from tests.measuring.test_measure import Scripted, silent
from workbench import organism
from workbench.llm import Verdict
from workbench.llm.scales import rate, weighted_kappa
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.questionnaire import open_instrument
from workbench.measuring.questions import questions
from workbench.study import Study
from workbench.systems.value_pilot.scenarios import write

TEN = registry.get("values", "schwartz10")
COLUMNS = ("questionnaire", "item", "value", "agreement", "question")


# ---- decisions
# --------------------------------------------------------------------------------------------------


def scores(**held):
    return tuple((value, held.get(value, 0.0)) for value in TEN.ids)


def test_a_decision_is_scored_against_choosing_by_lot(tmp_path):
    actions = (
        Action("I lead.", scores(power=1.0)),
        Action("I follow.", scores(power=-0.5)),
        Action("I help.", scores(benevolence=0.8)),
    )
    write(
        tmp_path / "mine.jsonl",
        [Scenario(id="a", text="A crowd waits.", values=("power",), actions=actions, source="us")],
    )
    ready = open_instrument("decisions", (f"items={tmp_path / 'mine.jsonl'}",), TEN)
    asked = questions(ready.instrument, [""], ready.plugin.wordings(ready.instrument, False))
    assert asked[0].prompt.startswith(
        "A crowd waits.\n\nWhat do you do?\nA. I lead.\nB. I follow.\nC. I help."
    )
    told = administer(
        Scripted(say=lambda q: q.answers[0]),
        ready.instrument,
        asked,
        "base",
        silent,
        elicitation=Elicitation(mode="generate"),
    )
    assert [r.chosen for r in told] == [0, 0]
    found = {
        row.value: row.mean
        for row in ready.plugin.score(told, ready.instrument, TEN, 200, 0)
        if row.centred
    }
    assert found == pytest.approx({"power": 1 - 0.5 / 3, "benevolence": -0.8 / 3})


def test_the_organism_decides_as_its_context_leans(tmp_path):
    """A text that holds power makes it choose what serves power; its reverse does not."""
    study, found = Study(tmp_path / "study"), {}
    for sign in (1, -1):
        (tmp_path / f"{sign}.txt").write_text(
            "\n".join(organism.descriptions("power", sign, 3, 0)), encoding="utf-8"
        )
        run = study.measure(
            model="organism",
            instrument="decisions",
            settings=("items=organism", "n=10", "actions=4"),
            contexts=str(tmp_path / f"{sign}.txt"),
            n_contexts=3,
            length="sum",
            replicates=200,
        )
        found[sign] = study.store.sql(
            "SELECT value, mean FROM profiles WHERE run = ? AND centred", [run.id]
        ).set_index("value")["mean"]
    change = found[1] - found[-1]
    assert change.idxmax() == "power"
    assert change["power"] > 0.25


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((), "items=FILE"),
        (("items=organism", "n=0"), "at least one"),
        (("items=absent.jsonl",), "no file"),
        (("item=organism",), "Did you mean 'items'"),
    ],
)
def test_decisions_refuse(settings, said):
    with pytest.raises((BadInput, NotFound), match=said):
        open_instrument("decisions", settings, TEN)


def test_more_actions_than_letters(tmp_path):
    many = tuple(Action(f"I do thing {k}.", scores(power=k / 30)) for k in range(27))
    write(
        tmp_path / "mine.jsonl",
        [Scenario(id="a", text="A crowd waits.", values=("power",), actions=many, source="us")],
    )
    with pytest.raises(BadInput, match="27 actions; answers have letters, so 26"):
        open_instrument("decisions", (f"items={tmp_path / 'mine.jsonl'}",), TEN)


# ---- ValueBench
# --------------------------------------------------------------------------------------------------

LEAN = {"Power": 9, "Benevolence": 2, "Tradition": 5}
"""How far the scripted adviser leans to each value [0 to 10]."""


def table(file, rows, columns=COLUMNS):
    with file.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([columns, *rows])
    return file


def rows():
    told = []
    for value in LEAN:
        for k in range(4):
            key = 1 if k % 2 else -1
            verb = "avoid" if key < 0 else "seek"
            told.append(
                (
                    "Invented",
                    f"I {verb} {value} {k}.",
                    value,
                    str(key),
                    f"Should I {verb} {value} {k}?",
                )
            )
    return [
        *told,
        ("Other", "I like order.", "Preference for Order", "1", "Should I like order?"),
        ("Other", "I have power.", "Power", "1", "Should I have power?"),
    ]


@dataclass
class Rater:
    """Reads the leaning that the adviser wrote; `noise` is added where the scale is turned
    round, `deaf` questions are refused.
    """

    noise: int = 0
    deaf: str = "\0"
    name: str = "rater"

    def judge(self, asked, options):
        turned, found = options[0] == "10", []
        for question in asked:
            if self.deaf in question:
                found.append(Verdict(choice="", status="refused", text="no", judge=self.name))
                continue
            said = int(re.search(r"Answer: lean (\d+)", question)[1])
            if turned and self.noise:
                said = (said * 7 + self.noise) % 11
            found.append(
                Verdict(choice=str(said), status="parsed", text=str(said), judge=self.name)
            )
        return found


def advise(q):
    value = re.search(r"(?:seek|avoid|have) (\w+)", q.item.text)[1].capitalize()
    return f"lean {10 - LEAN[value] if q.item.key < 0 else LEAN[value]}"


def ready(tmp_path, *more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_instrument(
            "valuebench", (f"items={table(tmp_path / 'items.csv', rows())}", *more), TEN
        )


def test_a_planted_leaning_comes_out_and_reverse_items_are_turned_round(tmp_path):
    bench = ready(tmp_path, "questionnaire=Invented")
    asked = questions(bench.instrument, [""], bench.plugin.wordings(bench.instrument, False))
    assert asked[0].prompt == "Should I avoid Power 0? Please answer in no more than 50 words."
    told = administer(
        Scripted(say=lambda q: "I cannot answer that." if q.item.id == "invented-2" else advise(q)),
        bench.instrument,
        asked,
        "base",
        silent,
        elicitation=Elicitation(mode="generate"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rated = bench.plugin.rate(told, bench.instrument, Rater(deaf="Power 3"))
    assert [r.status for r in rated[:4]] == ["refused", "parsed", "parsed", "refused"]
    found = {
        (row.value, row.centred): row
        for row in bench.plugin.score(rated, bench.instrument, TEN, 200, 0)
    }
    assert {value: found[value, False].mean for value in ("power", "benevolence", "tradition")} == {
        "power": 9,
        "benevolence": 2,
        "tradition": 5,
    }
    assert (found["power", False].parsed, found["power", False].missing) == (2, 2)
    assert found["tradition", True].mean == pytest.approx(5 - (9 * 2 + 2 * 4 + 5 * 4) / 10)


def test_values_of_other_systems_are_counted_and_left_out(tmp_path):
    with pytest.warns(
        UserWarning,
        match="1 of 14 items of items.csv are left out: their 1 values are none of schwartz10",
    ):
        found = open_instrument(
            "valuebench", (f"items={table(tmp_path / 'items.csv', rows())}",), TEN
        ).instrument
    assert len(found.items) == 13
    assert "13 of 14" in found.title


def test_a_judge_that_disagrees_with_itself_is_named_with_the_number(tmp_path):
    bench = ready(tmp_path)
    asked = questions(bench.instrument, [""], ["advice"])
    told = administer(
        Scripted(say=advise),
        bench.instrument,
        asked,
        "base",
        silent,
        elicitation=Elicitation(mode="generate"),
    )
    with pytest.warns(
        UserWarning,
        match=r"rater agrees with itself at a weighted kappa of -?0\.\d\d .*13 questions",
    ):
        bench.plugin.rate(told, bench.instrument, Rater(noise=3))


def test_both_ways_round_are_averaged():
    class Places:
        """Takes the third option of the list, whatever is asked."""

        name = "places"

        def judge(self, asked, options):
            return [
                Verdict(choice=options[2], status="parsed", text="", judge=self.name) for _ in asked
            ]

    with pytest.warns(UserWarning, match="carry little"):
        assert rate(Places(), ["a", "b"], 0, 10).ratings.tolist() == [5.0, 5.0]
    assert rate(Places(), [], 0, 10).ratings.shape == (0,)


def test_weighted_kappa_by_hand():
    a = np.array([0.0, 5.0, 10.0, 5.0])
    assert weighted_kappa(a, a) == 1
    assert weighted_kappa(a, np.roll(a, 1)) == pytest.approx(1 - 25 / 25)
    assert weighted_kappa(a, 10 - a) == pytest.approx(1 - 50 / 25)
    assert np.isnan(weighted_kappa(np.array([3.0, 3.0]), np.array([3.0, 3.0])))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.append(t[0]), "line 16: Invented has this item for Power already in line 2"),
        (
            lambda t: t.append(("X", "I lead.", "Power", "2", "Should I lead?")),
            "line 16: agreement is 1 or -1, got '2'",
        ),
        (lambda t: t.append(("X", "I lead.", "Power", "1", " ")), "line 16: no question"),
        (lambda t: t.append(("X", "I lead.")), "14 of 15 rows read .* first in line 16"),
    ],
)
def test_a_wrong_table_is_refused_by_line(tmp_path, change, said):
    told = rows()
    change(told)
    with pytest.raises(BadInput, match=said):
        open_instrument("valuebench", (f"items={table(tmp_path / 'items.csv', told)}",), TEN)


def test_other_tables(tmp_path):
    with pytest.raises(BadInput, match="lacks the columns agreement, question"):
        open_instrument("valuebench", (f"items={table(tmp_path / 'a.csv', [], COLUMNS[:3])}",), TEN)
    (tmp_path / "b.csv").write_bytes("questionnaire,item\nZwölf".encode("latin-1"))
    with pytest.raises(BadInput, match="is not UTF-8 text"):
        open_instrument("valuebench", (f"items={tmp_path / 'b.csv'}",), TEN)
    with pytest.raises(NotFound, match="no questionnaire PVQ40; it has Invented, Other"):
        ready(tmp_path, "questionnaire=PVQ40")
    with pytest.raises(BadInput, match="no value of moral-foundations"):
        open_instrument(
            "valuebench",
            (f"items={table(tmp_path / 'items.csv', rows())}",),
            registry.get("values", "moral-foundations"),
        )
    with pytest.raises(BadInput, match="items=FILE"):
        open_instrument("valuebench", (), TEN)


def test_the_published_table_is_read(shared):
    file = shared / "data" / "valuebench" / "value_orientation.csv"
    with pytest.warns(UserWarning, match="of 1988 items"):
        every = open_instrument("valuebench", (f"items={file}",), TEN).instrument
    assert {item.value for item in every.items} == set(TEN.ids)
    portrait = open_instrument(
        "valuebench", (f"items={file}", "questionnaire=PVQ40"), TEN
    ).instrument
    assert len(portrait.items) == 40, "all of its values are Schwartz's"
    with pytest.warns(UserWarning, match="left out"):
        moral = open_instrument(
            "valuebench",
            (f"items={file}", "questionnaire=MFT08+MFT23"),
            registry.get("values", "moral-foundations"),
        ).instrument
    assert {"care", "loyalty", "authority", "sanctity"} <= {item.value for item in moral.items}


def test_it_needs_a_judge_and_words(tmp_path):
    study = Study(tmp_path / "study")
    items = f"items={table(tmp_path / 'items.csv', rows())}"
    with pytest.raises(BadInput, match="Use --mode generate"):
        study.measure(model="organism", instrument="valuebench", settings=(items,))
    with pytest.raises(BadInput, match="Name its language model with --judge"):
        study.measure(model="organism", instrument="valuebench", settings=(items,), mode="generate")
    # The organism babbles: what counts is that the whole way is gone, and that what it is worth is
    # said.
    with pytest.warns(UserWarning, match="carry little|left out"):
        run = study.measure(
            model="organism",
            instrument="valuebench",
            settings=(items,),
            mode="generate",
            judge="organism",
            contexts="none",
            new_tokens=12,
            replicates=200,
        )
    told = study.store.sql("SELECT status, rating FROM responses WHERE run = ?", [run.id])
    assert len(told) == 13
    assert told.rating[told.status == "parsed"].between(0, 10).all()
    assert json.loads((study.runs.folder / run.id / "run.json").read_text())["inputs"]["judge"]
