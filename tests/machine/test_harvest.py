"""The one-pass harvest against a plain double loop."""

import numpy as np
import pytest
import torch

from feature_store.errors import BadInput
from feature_store.records import Site
from sae_training.dictionary import harvest as module
from sae_training.dictionary import kept, windows
from sae_training.dictionary.harvest import HarvestSettings, harvest, pooled
from sae_training.dictionary.stream import Tokens, read
from sae_training.dictionary.texts import Corpus
from tests.helpers import small_models

TEXTS = [
    "the cat sat on the mat",
    "the dog ran to the end of the garden and then " * 6,
    "你好 🙂 the cat",
    "and then the dog sat",
    "the mat",
] * 3
READ = (Corpus(TEXTS, rows=4, context=24), Site(1))


@pytest.fixture(scope="module")
def model():
    return small_models.model("llama")


@pytest.fixture(scope="module")
def sae():
    return small_models.topk_sae()


@pytest.fixture(scope="module")
def slow(model, sae):
    """(feature, document, position, activation) of every active pair, one by one."""
    found = []
    for tokens in read(model, *READ):
        features = sae.encode(tokens.x)
        for i, f in features.nonzero().tolist():
            found.append(
                (f, int(tokens.document[i]), int(tokens.position[i]), float(features[i, f]))
            )
    return found


def test_statistics_and_activations(model, sae, slow):
    told = harvest(model, sae, *READ, HarvestSettings(top_contexts=3))
    rows = list(
        zip(
            *(
                told.activations.table()[name].to_pylist()
                for name in ("feature", "document", "position", "activation")
            )
        )
    )
    assert [row[:3] for row in rows] == sorted(row[:3] for row in slow)
    assert told.share == 1
    assert told.documents == len(TEXTS)
    for feature in told.features.to_pylist():
        values = [v for f, _, _, v in slow if f == feature["feature"]]
        assert feature["n_active"] == len(values)
        assert feature["density"] == pytest.approx(len(values) / told.tokens)
        assert feature["max_activation"] == pytest.approx(max(values, default=0))
        assert feature["mean_activation"] == pytest.approx(
            np.mean(values) if values else 0, rel=1e-5
        )
        assert (feature["x"] is None) == (not values)
    assert sum(told.histograms["count"].to_pylist()) == len(slow)
    assert all(
        low <= high
        for low, high in zip(
            told.histograms["low"].to_pylist(), told.histograms["high"].to_pylist()
        )
    )


def test_top_contexts(model, sae, slow):
    told = harvest(model, sae, *READ, HarvestSettings(top_contexts=3))
    for feature in range(sae.n_features):
        best = {}
        for f, document, _, value in slow:
            if f == feature:
                best[document] = max(best.get(document, 0), value)
        rows = [row for row in told.contexts.to_pylist() if row["feature"] == feature]
        assert [row["rank"] for row in rows] == list(range(min(3, len(best))))
        np.testing.assert_allclose(
            [row["activation"] for row in rows], sorted(best.values(), reverse=True)[:3], rtol=1e-5
        )
        for row in rows:
            assert row["activations"][row["peak"]] == row["activation"]
            assert len(row["tokens"]) == len(row["activations"])
            assert any(
                f == feature and d == row["document"] and p == row["position"]
                for f, d, p, _ in slow
            )


def test_samples_are_active_tokens_and_their_quantiles_rise_with_the_activation(model, sae, slow):
    table = harvest(model, sae, *READ, HarvestSettings(samples=6)).samples.to_pandas()
    known = {(f, d, p): value for f, d, p, value in slow}
    for feature, rows in table.groupby("feature"):
        documents = {d for f, d, _ in known if f == feature}
        assert len(rows) == min(6, len(documents))
        assert rows.document.is_unique
        assert rows.draw.tolist() == list(range(len(rows)))
        ordered = rows.sort_values(["activation", "quantile"])
        assert ordered["quantile"].is_monotonic_increasing
        assert ordered["quantile"].between(0, 9).all()
        for row in rows.itertuples():
            assert known[feature, row.document, row.position] == pytest.approx(row.activation)
            assert row.activations[row.peak] == pytest.approx(row.activation)
    assert set(table.feature) == {f for f, _, _ in known}


def test_samples_do_not_depend_on_the_batches_and_do_on_the_seed(model, sae, monkeypatch):
    def drawn(rows, seed):
        corpus = Corpus(TEXTS, rows=rows, context=24)
        settings = HarvestSettings(samples=3, seed=seed)
        table = harvest(model, sae, corpus, Site(1), settings).samples.to_pandas()
        return table[["feature", "document", "position"]].to_numpy().tolist()

    whole = drawn(4, 0)
    monkeypatch.setattr(windows.KeptWindows, "_prune", often(windows.KeptWindows._prune))
    assert drawn(2, 0) == whole
    assert drawn(4, 1) != whole


def often(prune):
    """Prune after every batch, as a long corpus would."""

    def pruned(self):
        prune(self)
        self.limit = 0

    return pruned


def test_a_sample_is_even_over_a_features_tokens():
    """A feature that is active on 400 tokens of 400 documents: each is as likely to be kept."""
    counts = np.zeros(400)
    for seed in range(300):
        samples = windows.ContextSamples(1, 40, seed)
        pairs = windows.ActivePairs(np.arange(400), np.zeros(400, np.int64), np.ones(400))
        tokens = Tokens(
            x=torch.zeros(400, 1),
            document=torch.arange(400),
            position=torch.ones(400, dtype=torch.long),
            row=torch.arange(400),
            column=torch.zeros(400, dtype=torch.long),
            ids=torch.zeros(400, 1, dtype=torch.long),
        )
        samples.add(pairs, tokens)
        counts[samples.kept().document] += 1
    assert counts.sum() == 300 * 40
    spread = counts.std() / np.sqrt(300 * 0.1 * 0.9)
    assert 0.85 < spread < 1.15, "binomial, as an even draw is"
    assert abs(np.corrcoef(counts, np.arange(400))[0, 1]) < 0.2


def test_pooled_is_the_maximum_over_tokens(model, sae, slow):
    whole = pooled(model, sae, *READ)
    largest = whole.activations.toarray()
    expected = np.zeros_like(largest)
    for f, document, _, value in slow:
        expected[document, f] = max(expected[document, f], value)
    np.testing.assert_allclose(largest, expected, rtol=1e-6)


def test_a_text_is_the_mean_of_its_tokens_however_it_is_cut(model, sae):
    corpus, site = READ
    whole = pooled(model, sae, corpus, site).residuals
    by_text: dict[int, list] = {}
    for tokens in read(model, corpus, site, sae.reading):
        for document, x in zip(tokens.document.tolist(), tokens.x.numpy(), strict=True):
            by_text.setdefault(document, []).append(x)
    for document, rows in by_text.items():
        np.testing.assert_allclose(whole[document], np.mean(rows, 0), rtol=1e-5, atol=1e-6)


def test_what_stands_before_every_text_is_read_over(model, sae, slow):
    part = pooled(model, sae, *READ, start=3)
    expected = np.zeros(part.activations.shape)
    for f, document, position, value in slow:
        if position >= 3:
            expected[document, f] = max(expected[document, f], value)
    np.testing.assert_allclose(part.activations.toarray(), expected, rtol=1e-6)


def triples(told):
    """(feature, document, position) of each activation that is kept."""
    table = told.activations.table()
    return list(zip(*(table[name].to_pylist() for name in ("feature", "document", "position"))))


@pytest.mark.parametrize("part", [3, 40])
def test_too_many_activations_thin_out_tokens(model, sae, slow, monkeypatch, part):
    monkeypatch.setattr(module, "ACTIVATIONS", len(slow) // part)
    told = harvest(model, sae, *READ, HarvestSettings(seed=1))
    rows = triples(told)
    assert rows == sorted(rows)
    tokens = {(d, p) for _, d, p in rows}
    # Whole tokens, with every feature of theirs.
    assert rows == sorted((f, d, p) for f, d, p, _ in slow if (d, p) in tokens)
    assert 0 < told.activations.num_rows == len(rows) <= len(slow) // part
    assert told.share == len(rows) / len(slow)
    whole = harvest(model, sae, *READ, HarvestSettings(seed=1, top_contexts=3))
    assert whole.features.equals(harvest(model, sae, *READ).features)
    again = harvest(model, sae, *READ, HarvestSettings(seed=1))
    assert triples(again) == rows
    other = harvest(model, sae, *READ, HarvestSettings(seed=2))
    assert triples(other) != rows


def test_one_long_text_has_activations_in_the_store(model, sae, monkeypatch):
    """As many as many short ones have, from all over it, and statistics are of all tokens."""
    text = " ".join(TEXTS * 8)
    everything = harvest(model, sae, Corpus([text], rows=4, context=24), Site(1))
    most = everything.activations.num_rows // 5
    monkeypatch.setattr(module, "ACTIVATIONS", most)
    told = harvest(model, sae, Corpus([text], rows=4, context=24), Site(1))
    assert most / 4 < told.activations.num_rows <= most
    assert told.share == told.activations.num_rows / everything.activations.num_rows
    assert told.features.equals(everything.features)
    assert told.contexts.equals(everything.contexts)
    assert told.histograms.equals(everything.histograms)
    positions = np.array([position for _, _, position in triples(told)])
    assert np.histogram(positions, bins=4, range=(0, told.tokens))[0].min() > 0


def test_which_tokens_are_kept_is_drawn_evenly():
    rows = np.zeros(200_000, kept.ROW)
    rows["document"], rows["position"] = np.arange(200_000) // 400, np.arange(200_000) % 400
    numbers = kept._drawn(rows, 0)
    assert np.abs(np.histogram(numbers, bins=20, range=(0, 1))[0] / 10_000 - 1).max() < 0.05
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.01
    assert abs(np.corrcoef(numbers, kept._drawn(rows, 1))[0, 1]) < 0.01


def test_pieces_are_the_table(monkeypatch):
    monkeypatch.setattr(kept, "TOGETHER", 100)
    g = np.random.default_rng(0)
    told, parts = kept.Kept(50, 1_000, 0, None), []
    for _ in range(7):
        feature, document, position = (g.integers(0, most, 90) for most in (50, 9, 40))
        parts.append(np.stack([feature, document, position], 1))
        told.add(feature, document, position, g.random(90, np.float32))
    pieces = list(told.pieces())
    assert len(pieces) > 4
    assert max(piece.num_rows for piece in pieces) < 150
    table = told.table()
    got = np.stack([table[name].to_numpy() for name in kept.ROW.names[:3]], 1)
    expected = np.concatenate(parts)
    order = np.lexsort((expected[:, 2], expected[:, 1], expected[:, 0]))
    np.testing.assert_array_equal(got, expected[order])
    assert kept.Kept(50, 1_000, 0, None).table().num_rows == 0


def test_activations_with_nan_name_the_documents(model, sae, monkeypatch):
    def broken(ids, mask, site):
        return torch.full((*ids.shape, small_models.WIDTH), torch.nan)

    monkeypatch.setattr(model, "residuals", broken)
    with pytest.raises(
        BadInput, match=r"NaN or infinite activations at layer 1: \d+ tokens in \d+ documents"
    ):
        harvest(model, sae, *READ)
