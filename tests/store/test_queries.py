import inspect
import itertools
import pkgutil

import numpy as np
import pandas as pd
import pytest

from feature_store import queries, words
from feature_store.errors import BadInput
from feature_store.records import Label
from feature_store.runs import Runs
from feature_store.store import Store
from tests.helpers.synthetic import CONTEXTS, ITEMS, PLANTED, synthetic
from workbench.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("study") / "invented")


@pytest.fixture(scope="module")
def ids(study):
    runs = {}
    for kind, role, of in (
        ("sae", "", ""),
        ("labels", "sae", "sae"),
        ("effects", "labels", "labels"),
        ("graph", "effects", "effects"),
    ):
        runs[kind] = queries.candidates(study.store, kind, role, runs.get(of, "")).run[0]
    assert words.ensure(study.store, runs["sae"])
    return runs


def test_an_empty_study_answers_every_question_with_no_row(tmp_path):
    store = Study(tmp_path / "empty").store
    assert not words.ensure(store, "none")
    wanted = queries.FeatureFilter(text="doors", values=["power"])
    assert queries.features(store, "none", "none", wanted).total == 0
    for answer in (
        queries.runs(store),
        queries.feature_map(store, "none"),
        queries.contexts(store, "none", 0),
        queries.histogram(store, "none", 0),
        queries.matrix(store, "none"),
        queries.cell_ratings(store, "none", "power", "power"),
        queries.edges(store, "none"),
        queries.labelled_features(store, "none"),
        queries.leakage(store, "none"),
        queries.scenarios(store, "none"),
        queries.actions(store, "none", "none"),
    ):
        assert answer.empty


def test_pages_of_the_table_join_without_gap_or_repeat(study, ids):
    orders = [queries.FeatureOrder(limit=50, offset=offset) for offset in (0, 50, 100, 150)]
    pages = [
        queries.features(study.store, ids["sae"], ids["labels"], order=order) for order in orders
    ]
    rows = pd.concat([page.rows for page in pages])
    assert {page.total for page in pages} == {192}
    assert len(rows) == 192
    assert rows.feature.is_unique
    scores = rows.score.dropna()
    assert scores.is_monotonic_decreasing
    assert rows.score.isna().to_numpy()[len(scores) :].all()


def test_output_scores_stand_beside_their_labels_and_sort_the_table(study, ids):
    order = queries.FeatureOrder(sort="output", limit=1000)
    rows = queries.features(study.store, ids["sae"], ids["labels"], order=order).rows
    outputs = rows.output.dropna()
    assert outputs.is_monotonic_decreasing
    assert rows.output.isna().to_numpy()[len(outputs) :].all()
    scored = study.store.sql("SELECT count(DISTINCT feature) AS n FROM output_scores").n[0]
    assert len(outputs) == scored > 0
    feature = int(rows.feature[0])
    row = queries.competing_labels(study.store, ids["labels"], feature).iloc[0]
    assert row.accepted
    assert (row.output, row.output_n, row.null_high) == (rows.output[0], 6, 0.2)
    assert row.low == row.effect - 0.15, "the label's own interval stays its own"


def labelled(runs, sae, labeler, rows, seed=0):
    """A run of labels: rows are (feature, value, effect), without texts behind them."""
    unknown = float("nan")
    with runs.begin("labels", {"labeler": labeler}, {"sae": sae}, seed) as work:
        labels = [
            Label(
                feature=feature,
                value=value,
                polarity=1,
                part="topic",
                effect=effect,
                low=unknown,
                high=unknown,
                p=0.001,
                q=0.01,
                score=unknown,
                gain=unknown,
                n=10,
                method=labeler,
                accepted=True,
                evidence="{}",
            )
            for feature, value, effect in rows
        ]
        work.table("labels", labels, sort=("feature", "value"))
        work.table("output_scores", [])
        return work.finish({"texts": 0}).id


def an_sae(runs, features):
    """A run of an SAE with so many live features and two dead ones."""
    with runs.begin("sae", {"model": "organism", "features": features}, {}, 0) as work:
        unknown = float("nan")
        work.table(
            "features",
            [
                {
                    "feature": k,
                    "n_active": 5 if k < features else 0,
                    "density": 0.1,
                    "max_activation": 1.0,
                    "mean_activation": 0.5,
                    "decoder_norm": 1.0,
                    "x": unknown,
                    "y": unknown,
                }
                for k in range(features + 2)
            ],
        )
        return work.finish({"n_features": features + 2}).id


def test_labels_without_held_out_texts_are_ranked_by_their_effect(tmp_path):
    study = Study(tmp_path / "study")
    sae = an_sae(study.runs, 6)
    rows = [(1, "power", 2.5), (1, "security", 4.0), (3, "power", 3.0), (5, "tradition", 5.0)]
    run = labelled(study.runs, sae, "lexicon", rows)
    listed = queries.features(study.store, sae, run).rows
    assert listed.feature.tolist() == [5, 1, 3, 0, 2, 4]
    assert listed.value.tolist()[:3] == ["tradition", "security", "power"]
    assert listed.effect.tolist()[:3] == [5.0, 4.0, 3.0]
    assert listed.score.isna().all()
    assert queries.labelled_features(study.store, run).value.tolist() == [
        "power",
        "security",
        "tradition",
    ]
    assert queries.accepted_labels(study.store, run).feature.tolist() == [5, 1, 3, 1]
    assert queries.competing_labels(study.store, run, 1).value.tolist() == ["security", "power"]
    assert queries.labelled_by_value(study.store, run).score.isna().all()
    assert queries.best_evidence(study.store, run, 1).feature.tolist() == [3, 1, 5]
    wanted = queries.FeatureFilter(score=0.1)
    assert queries.features(study.store, sae, run, wanted).total == 0


def test_agreement_is_krippendorffs_published_example(tmp_path):
    """Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section A: 0.095."""
    study = Study(tmp_path / "study")
    sae = an_sae(study.runs, 10)
    meg, owen = "0100000010", "1110010000"
    runs = [
        labelled(
            study.runs, sae, name, [(k, "power", 1.0) for k, yes in enumerate(said) if yes == "1"]
        )
        for name, said in (("lexicon", meg), ("embedding", owen))
    ]
    agreement = queries.label_agreement(study.store, sae, runs)
    assert agreement.counts.set_index("run").features.to_dict() == {runs[0]: 2, runs[1]: 4}
    row = agreement.overlap.iloc[0]
    assert row.alpha == pytest.approx(0.095, abs=0.0005)
    assert (row.named_by_any, row.named_by_all) == (5, 1)
    assert row.jaccard == pytest.approx(1 / 5)
    assert set(queries.label_runs(study.store, sae).labeler) == {"lexicon", "embedding"}
    with pytest.raises(BadInput, match="two runs"):
        queries.label_agreement(study.store, sae, runs[:1])


def test_agreement_of_three_runs_is_that_of_the_formula_by_hand(tmp_path):
    study = Study(tmp_path / "study")
    sae = an_sae(study.runs, 8)
    said = {"a": {0, 1, 2}, "b": {0, 1}, "c": {0, 4}}
    runs = [
        labelled(
            study.runs,
            sae,
            name,
            [(k, "power", 1.0) for k in named] + [(7, "security", 1.0)] * (name == "a"),
        )
        for name, named in said.items()
    ]
    overlap = queries.label_agreement(study.store, sae, runs).overlap.set_index("value")
    # Nominal alpha from the matrix of coincidences: pairs of answers within each feature.
    coincidences = np.zeros((2, 2))
    for feature in range(8):
        answers = [int(feature in named) for named in said.values()]
        for one, other in itertools.permutations(range(3), 2):
            coincidences[answers[one], answers[other]] += 1 / 2
    totals, n = coincidences.sum(1), coincidences.sum()
    by_chance = 2 * totals[0] * totals[1] / (n * (n - 1))
    alpha = 1 - (coincidences[0, 1] + coincidences[1, 0]) / n / by_chance
    assert overlap.alpha["power"] == pytest.approx(alpha)
    assert overlap.jaccard["power"] == pytest.approx(np.mean([2 / 3, 1 / 4, 1 / 3]))
    # One run names one feature: no pair of the others has any, those with it share none.
    assert overlap.jaccard["security"] == 0
    assert overlap.named_by_all["security"] == 0
    alike = queries.label_agreement(
        study.store,
        sae,
        [runs[0], labelled(study.runs, sae, "d", [(k, "power", 1.0) for k in said["a"]])],
    )
    assert alike.overlap.set_index("value").alpha["power"] == 1


def test_filters_are_those_of_the_labels(study, ids):
    wanted = queries.FeatureFilter(values=["power"], polarity=-1, score=0.9)
    order = queries.FeatureOrder(limit=100)
    page = queries.features(study.store, ids["sae"], ids["labels"], wanted, order)
    labels = study.store.sql(
        "SELECT * FROM labels WHERE accepted AND value = 'power' AND polarity = -1 AND score >= 0.9"
    )
    assert set(page.rows.feature) == set(labels.feature)
    assert page.total == labels.feature.nunique()
    assert set(page.rows.value) == {"power"}


@pytest.mark.parametrize(
    "text", ["doors", "SCRIPT", "שלום", "🦉", "locked doors twi", "bold <script>"]
)
def test_the_words_find_what_reading_every_context_finds(study, ids, text):
    rows = study.store.sql(
        "SELECT feature, array_to_string(tokens, '') AS text FROM contexts WHERE run = ?",
        [ids["sae"]],
    )
    sought = words.split(study.store, text)
    assert sought
    wanted = queries.FeatureFilter(text=text)
    order = queries.FeatureOrder(limit=1000)
    page = queries.features(study.store, ids["sae"], "", wanted, order)
    holding = {row.feature for row in rows.itertuples() if _holds(row.text, sought)}
    assert set(page.rows.feature) == holding
    assert page.total > 0


def _holds(text: str, sought: list[str]) -> bool:
    import re

    written = set(re.findall(r"\w+|[^\w\s]", text.lower().replace("_", " ")))
    *whole, last = sought
    if not set(whole) <= written:
        return False
    begins = len(last) > 2 and any(word.startswith(last) for word in written)
    return last in written or begins


def test_a_text_without_words_filters_nothing(study, ids):
    wanted = queries.FeatureFilter(text="  ?!")
    assert queries.features(study.store, ids["sae"], wanted=wanted).total == 192


def test_one_feature(study, ids):
    store, sae = study.store, ids["sae"]
    assert queries.feature(store, sae, 3).decoder_norm.tolist() == [1.0]
    assert queries.feature(store, sae, 4000).empty
    contexts = queries.contexts(store, sae, 3, limit=5)
    assert contexts["rank"].tolist() == [0, 1, 2, 3, 4]
    assert contexts.activation.is_monotonic_decreasing
    assert len(queries.histogram(store, sae, 3)) == 20
    assert queries.spread(store, sae, 3).tokens.tolist() == [30]
    labels = queries.competing_labels(store, ids["labels"], 3)
    assert labels.accepted.tolist() == [True, False]


def test_a_cell_leads_to_its_prompts(study, ids):
    rows = queries.cell_ratings(study.store, ids["effects"], "power", "universalism", limit=1000)
    matched = queries.matched(study.store, ids["effects"])
    assert len(rows) == rows.total.iloc[0] == CONTEXTS * ITEMS * (matched.value == "power").sum()
    assert rows.prompt.notna().all()
    assert (rows.change.abs().diff().dropna() <= 1e-6).all()
    doses = queries.cell_doses(study.store, ids["effects"], "power", "universalism")
    assert set(doses.kind) == {"feature", "random-feature", "random-direction"}
    steered = doses[doses.kind == "feature"]
    assert (steered.low <= steered.effect).all()
    assert (steered.effect <= steered.high).all()
    assert steered.effect.mean() < -0.2, "turned so that power rises, universalism falls"


def test_the_graph_and_its_truth(study, ids):
    assert len(queries.edges(study.store, ids["graph"])) == 90
    assert len(queries.true_edges(study.store, ids["graph"])) == len(PLANTED)


def test_kept_answers_are_those_of_the_run_that_was_asked(study, ids):
    assert queries.features(study.store, ids["sae"], "no such run").rows.value.isna().all()
    assert queries.features(study.store, ids["sae"], ids["labels"]).rows.value.notna().all()
    for number in range(20):
        study.store.kept("SELECT ? AS number", [number])
    assert study.store.sql(
        f"SELECT number FROM {study.store.kept('SELECT ? AS number', [3])}"
    ).number.tolist() == [3]


def test_the_profile_that_says_what_a_model_values_comes_first(tmp_path):
    """Whatever was measured last once stood on the first page: dilemmas, a persona, a steering."""
    runs = Runs(tmp_path / "runs")

    def measured(n, instrument="standin", persona="", steering="base", heard="yes", model="m"):
        config = {"instrument": instrument, "persona": persona, "n": n}
        with runs.begin("profile", config, {"model": model}, 0) as work:
            return work.finish({"steering": steering, "heard": heard}).id

    first = measured(1)
    second = measured(2)
    others = [
        measured(3, heard="no"),
        measured(4, instrument="moral-dilemmas"),
        measured(5, persona="Be stern."),
        measured(6, steering="f3 at 0.4"),
    ]
    elsewhere = measured(7, model="another")
    store = Store(runs.folder)
    of_model = queries.profile_candidates(store, "m").run.tolist()
    assert of_model[:4] == [second, first, *others[:2]]
    assert set(of_model[4:]) == set(others[2:])
    assert queries.profile_candidates(store).run[0] == elsewhere


def test_no_query_is_hidden_by_a_module_of_its_name():
    hidden = [name for name in queries.__all__ if inspect.ismodule(getattr(queries, name))]
    assert not hidden, "importing the module later puts it in the query's place"
    modules = {module.name for module in pkgutil.iter_modules(queries.__path__)}
    assert not modules & set(queries.__all__)
