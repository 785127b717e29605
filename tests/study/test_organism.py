"""The organism: the shipped weights carry the planted truth, and its texts carry the confound
and no items."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workbench import organism
from workbench.organism.planted import SCALE, Truth, facet_shocks, planted_language

pytestmark = pytest.mark.slow_file


@pytest.fixture(scope="module")
def truth() -> Truth:
    return organism.truth()


@pytest.fixture(scope="module")
def texts() -> list[organism.LabelledText]:
    return organism.labelled_texts(3000, seed=1)


def test_importing_the_organism_loads_no_torch() -> None:
    code = (
        "import sys; from workbench import organism; organism.truth(); sys.exit('torch' in"
        " sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_folder_is_a_plain_hugging_face_folder_of_at_most_four_megabytes() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = organism.folder()
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4e6
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == len(tokenizer)
    sentence = "I locked the doors twice, and 6 times."
    ids = tokenizer(sentence).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True).startswith("i locked the doors twice,")
    assert all(len(tokenizer.encode(str(n), add_special_tokens=False)) == 1 for n in range(1, 7))


def test_everything_the_organism_reads_is_in_its_vocabulary() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(organism.folder())
    read = [
        *organism.training_texts(300, 0),
        *organism.neutral_texts(20, 0),
        *organism.contexts(50, 0),
    ]
    read += [organism.CHOOSE] + [
        wording.format(item=item)
        for items in planted_language().items.values()
        for item in items
        for wording in planted_language().wordings
    ]
    assert not any(tokenizer.unk_token_id in tokenizer(text).input_ids for text in read)


def test_truth_is_consistent(truth: Truth) -> None:
    size = len(truth.values)
    assert np.allclose(
        truth.effects, np.linalg.inv(np.eye(size) - truth.graph) * truth.scale, atol=1e-6
    )
    assert truth.scale == SCALE
    assert (truth.graph != 0).sum() == 8
    assert np.allclose(
        truth.directions @ truth.directions.T, np.eye(len(truth.directions)), atol=1e-5
    )
    assert len(truth.facets) == 60
    assert [facet.direction for facet in truth.facets] == list(range(60))
    assert truth.free_rows == tuple(range(60, 60 + len(truth.free)))
    assert sorted(truth.topics.values()) == sorted(truth.values)
    assert np.allclose(truth.effects, planted_language().truth.effects, atol=1e-6), (
        "weights were built from another plan"
    )


def test_a_leak_goes_to_one_value_outside_the_chains_of_its_own(truth: Truth) -> None:
    leaky = [facet for facet in truth.facets if facet.leak_to is not None]
    assert len(leaky) == 5
    assert len({facet.value for facet in leaky}) == 5
    for facet in leaky:
        own, other = truth.values.index(facet.value), truth.values.index(facet.leak_to)
        assert truth.effects[own, other] == 0
        assert truth.effects[other, own] == 0
    assert np.count_nonzero(facet_shocks(truth.values, truth.facets)) == 65


def test_shipped_weights_carry_the_planted_truth() -> None:
    from workbench.organism.check import check

    report = check(organism.folder(), prefixes=1, items=2)
    assert report.holds, report.figures()


def test_pushed_leaves_no_trace() -> None:
    import torch

    from workbench.organism.check import LoadedOrganism

    subject = LoadedOrganism(organism.folder())
    ids = torch.tensor([subject.tokenizer.encode("I washed the cups.")])
    with torch.no_grad():
        before = subject.model(ids).logits
        with pytest.raises(RuntimeError), subject.pushed(subject.directions[:1]):
            raise RuntimeError
        assert torch.equal(before, subject.model(ids).logits)


def test_training_packs_questions_and_choices_as_if_each_were_asked_alone() -> None:
    import torch

    from workbench.organism.check import LoadedOrganism
    from workbench.organism.choices import Choices
    from workbench.organism.episodes import Vocabulary, episode, pack

    subject = LoadedOrganism(organism.folder())

    def encode(text: str) -> list[int]:
        return subject.tokenizer.encode(text, add_special_tokens=False)

    rng = np.random.default_rng(3)
    drawn = [episode(rng) for _ in range(2)]
    end = subject.tokenizer.eos_token_id
    vocabulary = Vocabulary(
        encode=encode,
        begin=subject.tokenizer.bos_token_id,
        end=end,
        digits=tuple(subject.digits),
        size=len(subject.tokenizer),
    )
    batch = pack(drawn, vocabulary, Choices(encode, end), rng)
    with torch.no_grad():
        hidden = subject.model.model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        packed = hidden[batch.answer_at]
        alone = [
            subject.model.model(
                torch.tensor([subject.tokenizer.encode(f"{one.document.text} {question}")])
            ).last_hidden_state[0, -1]
            for one in drawn
            for question, _ in one.questions
        ]
        assert torch.allclose(packed, torch.stack(alone), atol=1e-4)
        rows = batch.chosen_at[0].tolist()
        starts = [rows.index(row) for row in range(len(drawn))]
        asked = [
            subject.model.model(
                torch.tensor([subject.tokenizer.encode(f"{one.document.text} {organism.CHOOSE}")])
            ).last_hidden_state[0, -1]
            for one in drawn
        ]
        assert torch.allclose(hidden[batch.chosen_at][starts], torch.stack(asked), atol=1e-4)


def test_what_is_chosen_follows_from_what_is_held() -> None:
    """Every word's distribution multiplies up to the odds of the behaviour, and these are those
    of its value.
    """
    from transformers import AutoTokenizer

    from workbench.organism.choices import CHOICE, Choices

    tokenizer = AutoTokenizer.from_pretrained(organism.folder())
    choices = Choices(
        lambda text: tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id
    )
    rng, held = np.random.default_rng(0), np.linspace(-1.5, 1.5, 10)
    odds = choices.odds(held)
    assert odds.sum() == pytest.approx(1)
    told = [
        (row.owner, sign)
        for row in planted_language().rows[:60]
        for sign, texts in ((1, row.plus), (-1, row.minus))
        for _ in texts
    ]
    for value, amount in zip(planted_language().truth.values, held, strict=True):
        plus, minus = (
            sum(p for p, one in zip(odds, told, strict=True) if one == (value, sign))
            for sign in (1, -1)
        )
        assert np.log(plus / minus) == pytest.approx(2 * CHOICE * amount)
    for _ in range(20):
        chosen = choices.draw(rng, held)
        path = 1.0
        for word, (words, p) in zip(
            (*chosen.ids, tokenizer.eos_token_id), chosen.words, strict=True
        ):
            assert p.sum() == pytest.approx(1)
            path *= p[list(words).index(word)]
        assert min(abs(odds - path)) < 1e-12


def test_answer_distribution_has_the_planted_mean() -> None:
    from workbench.organism.episodes import answer_distribution

    for rating in (1.1, 2.3, 3.5, 4.7, 5.9):
        assert answer_distribution(rating) @ np.arange(1, 7) == pytest.approx(rating, abs=0.01)


def test_texts_are_drawn_again_by_their_seed() -> None:
    for draw in (
        organism.labelled_texts,
        organism.training_texts,
        organism.neutral_texts,
        organism.contexts,
    ):
        assert draw(20, 4) == draw(20, 4)
        assert draw(20, 4) != draw(20, 5)


def test_no_questionnaire_item_occurs_in_any_text(texts: list[organism.LabelledText]) -> None:
    read = (
        [text.text for text in texts] + organism.training_texts(1000, 2) + organism.contexts(200, 2)
    )
    items = [item.lower() for asked in planted_language().items.values() for item in asked]
    assert not [item for item in items if any(item in text.lower() for text in read)]


def test_neutral_texts_say_nothing_about_values() -> None:
    behaviours = [sentence for row in planted_language().rows for sentence in row.plus + row.minus]
    assert not any(
        behaviour in text for text in organism.neutral_texts(100, 0) for behaviour in behaviours
    )


def test_every_value_varies_over_contexts() -> None:
    texts = organism.contexts(24, 0)
    assert all(any(hedge in text for hedge in planted_language().hedges) for text in texts)
    for sign in ("plus", "minus"):
        own = [(row.owner, t[2:]) for row in planted_language().rows for t in getattr(row, sign)]
        seen = {owner for owner, tail in own if any(tail in text for text in texts)}
        assert set(organism.truth().values) <= seen, (
            f"no context speaks of {set(organism.truth().values) - seen}, {sign}"
        )


def test_topics_confound_values_in_the_margin_and_not_within_a_topic(
    truth: Truth, texts: list[organism.LabelledText]
) -> None:
    for topic, value in truth.topics.items():
        held = np.array([text.labels.get(value) == 1 for text in texts])
        there = np.array([text.context == topic for text in texts])
        assert there[held].mean() > 0.5
        assert there[~held].mean() < 0.1
        # within the topic its sentence is always there, so it tells nothing, and both sides can be
        # compared
        assert (held & there).sum() >= 50
        assert (~held & there).sum() >= 50
        for text in (text for text in texts if text.context == topic):
            assert any(line in text.text for line in planted_language().topics[topic])


def test_labels_say_what_the_text_says(texts: list[organism.LabelledText]) -> None:
    for text in texts[:300]:
        said = {
            (row.owner, sign)
            for row in planted_language().rows[:60]
            for sign, lines in ((1, row.plus), (-1, row.minus))
            for line in lines
            if line in text.text
        }
        assert said == set(text.labels.items())


@pytest.mark.slow
def test_the_build_command_makes_the_weights_again(tmp_path: Path) -> None:
    from workbench.organism.check import check

    command = [sys.executable, "-m", "workbench.organism.build", str(tmp_path / "organism")]
    subprocess.run(command, check=True)
    report = check(tmp_path / "organism")
    assert report.holds, report.figures()
