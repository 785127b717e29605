"""What language models write for scenarios, dilemmas, pairs, concepts and roles: read, or kept as
unread, whatever it is."""

import json
import math

from hypothesis import example, given
from hypothesis import strategies as st

from feature_store import registry
from tests.helpers.hostile import survives
from workbench.steering import pairs
from workbench.systems.adaem.rewriting import read_list
from workbench.systems.couple import texts as couple
from workbench.systems.kang import roles
from workbench.systems.value_pilot import deciding, dilemmas, writing

TEN = registry.get("values", "schwartz10")
WRITTEN = ["scenario", "actions", "text", "scores", "values", "norm", "steps", "situation"]
PARTS = ["dilemma", "choiceA", "choiceB", "held", "opposed"]
KEYS = st.sampled_from([*WRITTEN, *PARTS, *TEN.ids])
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | KEYS
JSON = st.recursive(
    LEAF,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(KEYS, parts, max_size=6),
    max_leaves=30,
)
LINES = st.lists(
    st.sampled_from([f"{value.name}: 4" for value in TEN.values] + ["- ", "1. ", "nothing", "| "])
    | st.text(max_size=30),
    max_size=10,
).map("\n".join)


@given(st.text(max_size=200) | JSON.map(json.dumps) | LINES)
@example("[" * 100_000)
@example('{"a":' * 20_000)
@example('{"values": ' + "9" * 5000 + "}")
@example('{"held": "a", "held": "b", "opposed": "\\ud800"}')
@example('{"values": [["power", {}]]}')
@example('{"values": [[]]}')
@example("\n" * 20_000)
@example("```" + "\n" * 20_000)
@example("a" + "_" * 20_000 + "a")
@example("1. " + " " * 20_000 + "x")
@example("question answer" * 5_000)
def test_hostile_writing_is_read_or_kept_as_unread(reply):
    def every_reader():
        two = (("power", "security"),) * 2
        written = writing.read_written(reply, TEN, ("power",), 2, "id", "us")
        assert (written.scenario is None) == (written.status != "parsed")
        inferred = writing.read_inferred(reply, TEN)
        assert inferred.status == "parsed" or not inferred.values
        dilemma = dilemmas.read_written(reply, two, "id", "")
        assert (dilemma.dilemma is None) == (dilemma.status != "parsed")
        assert written.reason.isprintable() or "\n" in written.reason
        dilemmas.read_inferred(reply, TEN, 2)
        pairs._parse(reply)
        read_list(reply, 3)
        chosen, status = deciding.read_choice(reply, ["I stay.", "I go."])
        assert (chosen >= 0) == (status == "parsed")
        scores = couple.read_scores(TEN)(reply) or {}
        assert all(1 <= score <= 5 for score in scores.values())
        for read in (couple.read_values(TEN.ids, TEN), couple.read_concepts(TEN)):
            read(reply)
        couple.read_idea(reply)
        couple.read_residual(reply)
        (answer,) = roles.read([reply], ["Do you?"])
        assert math.isnan(answer.score) == (answer.status != "parsed")

    survives(every_reader)
