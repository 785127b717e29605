"""Value Portrait: the released scores and correlations come out again, planted ones are found,
and what is wrong with a file is said."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from benchmarks import value_portrait as released
from feature_store import registry
from feature_store.errors import BadInput, NotFound
from feature_store.records import Response
from tests.helpers.instruments import opened, value_portrait
from tests.measuring.test_measure import Scripted, silent
from workbench.instruments.value_portrait import PHRASES, tags
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.by_item import item_profile, item_scores
from workbench.measuring.questionnaire import open_instrument
from workbench.measuring.questions import questions

SYSTEM = registry.get("values", "schwartz10")


def test_the_released_scores_come_out_again(shared):
    cells = released.scores(shared / "data" / "value_portrait")
    assert len(cells) == 8 * (10 + 4) * 4
    assert max(cell.difference for cell in cells) < 1e-6


def test_the_released_correlations_come_out_again(shared):
    found = released.correlations(shared / "data" / "value_portrait")
    assert sorted(found) == [*range(12)]
    assert all(one.r < 1e-6 and one.p < 1e-6 for group, one in found.items() if group > 0)
    assert 0.12 < found[0].r < 0.127, "group 0 is known to differ"


def test_two_tags_are_dropped_for_their_p(shared):
    folder = shared / "data" / "value_portrait"
    alone, with_p = (released.instrument(folder, SYSTEM, p) for p in (False, True))
    pairs = [{(item.id, tag) for item in one.items for tag in item.tags} for one in (alone, with_p)]
    assert pairs[0] - pairs[1] == {("3902-4", "achievement"), ("1901-1", "universalism")}
    assert (len(with_p.items), len(pairs[1])) == (221, 284)
    higher = released.instrument(folder, registry.get("values", "higher-order"), False)
    hedonism = {item.id for item in with_p.items if item.tags == ("hedonism",)}
    openness = {item.id for item in higher.items if "openness-to-change" in item.tags}
    assert hedonism - openness, "hedonism is no part of the released openness"


@pytest.mark.parametrize("mode", ["logprob", "generate"])
@pytest.mark.parametrize("value", ["hedonism", "tradition"])
def test_who_agrees_with_one_values_items_ranks_it_first(tmp_path, mode, value):
    ready = opened("value-portrait", tmp_path)
    who = Scripted(say=lambda q: PHRASES[5] if value in q.item.tags else PHRASES[0])
    asked = questions(ready.instrument, [""], ready.plugin.wordings(ready.instrument, False))
    assert len(asked) == 6 * len(ready.instrument.items)
    told = administer(
        who,
        ready.instrument,
        asked,
        "base",
        silent,
        elicitation=Elicitation(mode=mode, read=ready.plugin.read),
    )
    rows = ready.plugin.score(told, ready.instrument, SYSTEM, 500, 0)
    first = max((row for row in rows if row.centred), key=lambda row: row.mean)
    assert first.value == value
    assert first.low > 0
    assert all(row.parsed and not row.missing for row in rows)


@pytest.mark.parametrize(
    ("said", "chosen", "status"),
    [
        ("Very much like me", 5, "parsed"),
        ("not like me", 1, "parsed"),
        ("That is not like me at all!", 0, "parsed"),
        ('"Like me."', 4, "parsed"),
        ("a little\nlike me", 2, "parsed"),
        ("NTA", -1, "unparsed"),
        ("", -1, "unparsed"),
        ("I'm sorry, I cannot say.", -1, "refused"),
        ("As an AI I would say: somewhat like me", 3, "parsed"),
    ],
)
def test_the_longest_phrase_of_a_reply_counts(tmp_path, said, chosen, status):
    ready = opened("value-portrait", tmp_path)
    question = questions(ready.instrument, [""], ["view"])[0]
    assert ready.plugin.read(said, question) == (chosen, status)


def answer(item, rating, wording="reply", status="parsed"):
    return Response(
        item=item,
        value="",
        context=0,
        wording=wording,
        order="ascending",
        seed=0,
        steering="base",
        text="",
        logprobs=(),
        rating=rating,
        status=status,
    )


def test_an_item_counts_once_however_many_prompts_could_be_read(tmp_path):
    """Two items of power, one read twice and one once; a third of another value; by hand."""
    instrument = opened("value-portrait", tmp_path).instrument
    one, two, three = (
        dataclasses.replace(item, id=id, tags=tags, group=group)
        for item, id, tags, group in zip(
            instrument.items[:3],
            "abc",
            (("power",), ("power", "security"), ("security",)),
            "xxy",
            strict=True,
        )
    )
    small = dataclasses.replace(instrument, items=(one, two, three))
    told = [
        answer("a", 2.0),
        answer("a", 4.0, "view"),
        answer("b", 6.0),
        answer("b", float("nan"), "view", "unparsed"),
        answer("c", 1.0),
    ]
    rows = {(row.value, row.centred): row for row in item_profile(told, small, SYSTEM, 200, 0)}
    assert rows["power", False].mean == 4.5
    assert rows["security", False].mean == 3.5
    assert rows["power", True].mean == pytest.approx(4.5 - 10 / 3)
    assert (rows["power", False].n, rows["security", False].n) == (1, 2), "a query is one cluster"
    assert (rows["power", False].parsed, rows["power", False].missing) == (3, 1)
    none = [dataclasses.replace(r, status="refused", rating=float("nan")) for r in told]
    assert all(
        np.isnan(row.mean) and row.parsed == 0 for row in item_profile(none, small, SYSTEM, 200, 0)
    )


def test_intervals_of_unequal_clusters_cover_the_truth(tmp_path):
    """Queries of two to five items with a spread of their own; 95 % intervals of centred scores
    hold the truth about as often.
    """
    instrument, rng = opened("value-portrait", tmp_path).instrument, np.random.default_rng(0)
    items, clusters = [], 40
    for query in range(clusters):
        for number in range(2 + query % 4):
            tags = (
                ("power",)
                if (query + number) % 3
                else ("power", "security")
                if number
                else ("security",)
            )
            items.append(
                dataclasses.replace(
                    instrument.items[0], id=f"{query}-{number}", tags=tags, group=str(query)
                )
            )
    made = dataclasses.replace(instrument, items=tuple(items))
    lift = {("power",): 0.0, ("security",): 1.0, ("power", "security"): 0.5}
    score = np.array([lift[item.tags] for item in items])
    powered = np.array(["power" in item.tags for item in items])
    truth, held, wide = score[powered].mean() - score.mean(), 0, 0
    for draw in range(200):
        shared = dict(zip(map(str, range(clusters)), rng.normal(0, 1, clusters), strict=True))
        # A query's own lift of what power is tagged with: what a bootstrap over items would miss.
        told = [
            answer(
                item.id,
                3
                + lift[item.tags]
                + shared[item.group] * (0.5 if "power" in item.tags else -0.5)
                + rng.normal(0, 0.3),
            )
            for item in items
        ]
        row = next(
            r
            for r in item_profile(told, made, SYSTEM, 400, draw)
            if r.value == "power" and r.centred
        )
        held += row.low <= truth <= row.high
        wide += row.high - row.low < 1.0
    assert 0.90 <= held / 200 <= 0.99
    assert wide == 200


def test_tags_are_found_where_they_were_planted():
    rng = np.random.default_rng(0)
    people = {f"p{n}": dict(zip(SYSTEM.ids, rng.normal(0, 1, 10), strict=True)) for n in range(400)}
    ratings = {
        "about-power": {p: v["power"] + rng.normal(0, 0.7) for p, v in people.items()},
        "against-power": {p: -v["power"] + rng.normal(0, 0.7) for p, v in people.items()},
        "nothing": {p: float(rng.normal()) for p in list(people)[:200]},
        "same": dict.fromkeys(people, 3.0),
    }
    pairs = tags.tag_items(ratings, people)
    assert tags.measured_values(pairs, 0.3, 0.05) == {"about-power": ("power",)}
    known = {(pair.item, pair.value): pair for pair in pairs}
    for item, value in (("about-power", "power"), ("nothing", "security")):
        told = stats.spearmanr(
            list(ratings[item].values()), [people[p][value] for p in ratings[item]]
        )
        assert known[item, value].r == pytest.approx(told.statistic, abs=1e-12)
        assert known[item, value].p == pytest.approx(told.pvalue, abs=1e-12)
    assert np.isnan(known["same", "power"].r)
    assert known["nothing", "power"].n == 200


def test_false_discoveries_are_foretold():
    rng = np.random.default_rng(1)
    people = {f"p{n}": dict(zip(SYSTEM.ids, rng.normal(0, 1, 10), strict=True)) for n in range(46)}
    ratings = {f"i{n}": {p: float(rng.normal()) for p in people} for n in range(300)}
    kept, chance = tags.false_discoveries(tags.tag_items(ratings, people), 0.3, 0.05)
    assert kept == pytest.approx(chance, rel=0.35), "nothing was planted, so what is kept is chance"


def test_raw_ratings_tag_the_items_of_a_file(tmp_path):
    (items,) = value_portrait(tmp_path)
    rng = np.random.default_rng(0)
    names = [value.name.replace("-", "_").replace(" ", "_") for value in SYSTEM.values]
    people = {
        f"p{n}": {"pvq": dict(zip(names, rng.normal(0, 1, 10).tolist(), strict=True))}
        for n in range(80)
    }
    held = {f"{1000 + q}-{n}": names[q % 10] for q in range(12) for n in range(1, 5)}
    group = {}
    for item, value in held.items():
        query, number = item.split("-")
        data = [
            [told["pvq"][value] + rng.normal(0, 0.2), person] for person, told in people.items()
        ]
        group.setdefault(query, []).append({"option_id": int(number), "data": data})
    (tmp_path / "survey.json").write_text(json.dumps([group]))
    (tmp_path / "people.json").write_text(json.dumps(people))
    found = open_instrument(
        "value-portrait",
        [items, f"survey={tmp_path / 'survey.json'}", f"people={tmp_path / 'people.json'}"],
        SYSTEM,
    ).instrument
    assert {
        item.id: SYSTEM.resolve(held[item.id]) in item.tags for item in found.items
    } == dict.fromkeys(held, True)
    group["1000"][0]["data"] *= 2
    (tmp_path / "survey.json").write_text(json.dumps([group]))
    with pytest.raises(BadInput, match="rates item 1000-1 twice"):
        tags.read_ratings(tmp_path / "survey.json")


def spoil(told, how):
    query = told[1]
    if how == "twice":
        query["outputs"][1]["id"] = 1
    elif how == "key":
        del query["outputs"][0]["correlations"]
    elif how == "value":
        query["outputs"][0]["correlations"][0][0] = "Powr"
    elif how == "text":
        query["content"]["text"] = 3
    elif how == "empty":
        query["outputs"][0]["content"] = " "
    elif how == "low":
        for output in (output for query in told for output in query["outputs"]):
            output["correlations"] = [[value, 0.1] for value, _ in output["correlations"]]
    return {"object": {"queries": told}, "nothing": []}.get(how, told)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("twice", "query 2: item 1001-1 stands there twice"),
        ("key", "query 2: lacks 'correlations'"),
        ("value", "not a value of schwartz10"),
        ("text", "query 2: expected a text, got int"),
        ("empty", "has no response text"),
        ("low", "No item of .* has r > 0.3"),
        ("object", "expected a list of queries, got dict"),
        ("nothing", "expected a list of queries"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, how, says):
    settings = value_portrait(tmp_path)
    file = tmp_path / "portrait.json"
    file.write_text(json.dumps(spoil(json.loads(file.read_text()), how)))
    with pytest.raises((BadInput, NotFound), match=says) as caught:
        open_instrument("value-portrait", settings, SYSTEM)
    assert "\n" not in str(caught.value)


def test_other_encodings_and_settings_that_do_not_go_together_are_refused(tmp_path):
    settings = value_portrait(tmp_path)
    text = (tmp_path / "portrait.json").read_text()
    (tmp_path / "portrait.json").write_bytes(text.replace("way", "wäy").encode("utf-8-sig"))
    assert "wäy" in open_instrument("value-portrait", settings, SYSTEM).instrument.items[0].text
    (tmp_path / "portrait.json").write_bytes(text.replace("way", "wäy").encode("latin-1"))
    for told, says in (
        (settings, "not UTF-8"),
        ((), "needs its items"),
        ((*settings, "survey=x"), "needs both survey=FILE"),
        (("items=nowhere",), "no file"),
    ):
        with pytest.raises((BadInput, NotFound), match=says):
            open_instrument("value-portrait", told, SYSTEM)
    with pytest.raises(BadInput, match="measures schwartz10 or higher-order"):
        open_instrument("value-portrait", settings, registry.get("values", "schwartz19"))


def test_untagged_items_are_asked_only_where_that_is_wanted(tmp_path):
    settings = value_portrait(tmp_path)
    file = tmp_path / "portrait.json"
    told = json.loads(file.read_text())
    told[0]["outputs"][0]["correlations"] = [["Power", -0.5]]
    file.write_text(json.dumps(told))
    few, all_ = (
        open_instrument("value-portrait", (*settings, *more), SYSTEM).instrument
        for more in ((), ("ask=all",))
    )
    assert {item.id for item in all_.items} - {item.id for item in few.items} == {"1000-1"}
    asked = questions(all_, [""], ["view"])
    found = administer(Scripted(say=lambda q: PHRASES[2]), all_, asked, "base", silent)
    assert item_scores(found, all_, SYSTEM).counted.sum() == len(few.items)


def test_the_verb_measures_it_and_says_what_speaks_against_it(tmp_path):
    from workbench.study import Study

    study = Study(tmp_path / "study")
    run = study.measure(
        model="organism",
        instrument="value-portrait",
        settings=value_portrait(tmp_path),
        contexts="none",
        replicates=200,
    )
    assert run.summary["answers"] == 12 * 4 * 6
    rows = study.store.sql("SELECT * FROM profiles WHERE run = ? AND centred", [run.id])
    assert len(rows) == 10
    assert (rows.low < rows["mean"]).all()
    assert (rows.n <= 12).all(), "queries are the clusters"
    metrics = set(study.store.sql("SELECT metric FROM quality WHERE run = ?", [run.id]).metric)
    assert {"unparsed", "too-long", "position", "split-half", "alternate-form", "length"} <= metrics
