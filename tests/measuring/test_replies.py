"""Replies as models write them, each with its right reading: read so, or not at all.

A third entry of `maybe` marks a reply that says something which the reader may leave unread; all
others must come out as they stand here."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_store.records import Action, Item
from tests.helpers.hostile import survives
from workbench.llm.reading import is_refusal, read_choice, read_number
from workbench.measuring.questions import Question
from workbench.measuring.reading import read
from workbench.measuring.scale import PHRASES

UNREAD = None
maybe = True

LIKENESS = [
    # both ends, the middle, and how models dress them
    ("Very much like me", 6),
    ("not like me at all", 1),
    ("NOT LIKE ME AT ALL!", 1),
    ("Not like me.", 2),
    ("a little like me", 3),
    ("Somewhat like me", 4),
    ("Like me", 5),
    (" like me\n", 5),
    ("**Somewhat like me**", 4),
    ("`a little like me`", 3),
    ("“Like me.”", 5),
    ("'not like me'", 2),
    ("- like me", 5),
    ("* not like me at all", 1),
    ("> very much like me", 6),
    ("# Somewhat like me", 4),
    ("Answer: very much like me", 6),
    ("**Answer:** Not like me at all.", 1),
    ("Final answer: a little like me", 3),
    ("My answer is: like me.", 5),
    ('{"answer": "somewhat like me"}', 4),
    ("<answer>like me</answer>", 5),
    ("\\boxed{\\text{like me}}", 5),
    ("I would say somewhat like me.", 4),
    ("I'd say this is very much like me.", 6),
    ("I think it is a little like me.", 3),
    ("This response is not like me.", 2),
    ("That's like me", 5),
    ("It's not like me at all, honestly.", 1),
    ("As an AI I would say: somewhat like me", 4),
    ("Honestly, not like me.", 2),
    ("Very  much\nlike me", 6),
    ("like me, because I value honesty", 5),
    ("Somewhat like me because it depends on the day.", 4),
    ("A little like me - I rarely do it.", 3),
    ("Not like me (I would never lie).", 2),
    ("Very much like me! I love it.", 6),
    ("Like me. Other people are not like that.", 5),
    ("<think>not like me? like me?</think>very much like me", 6),
    ("<thinking>It is like me.</thinking>\nNot like me", 2),
    ("Let me see.</think>a little like me", 3),
    # near phrases
    ("Not at all like me", 1),
    ("not at all like me.", 1),
    ("It isn't like me at all", 1),
    ("It is not at all like me.", 1),
    ("This isn’t like me at all.", 1),
    ("It isn't like me.", 2),
    ("Very little like me", 3),
    ("Little like me", 3),
    ("Like me very much", 6),
    ("Like me, very much.", 6),
    ("Some what like me", 4),
    ("It likes me very much", 6),
    ("Extremely like me", 6, maybe),
    ("Nothing like me", 1, maybe),
    ("kind of like me", 4, maybe),
    ("It is unlike me", 2, maybe),
    # negations
    ("I would not say that it is very much like me", UNREAD),
    ("I wouldn't say it's like me", UNREAD),
    ("That does not sound like me", 2, maybe),
    ("This is hardly like me", UNREAD),
    ("I don't think this is very much like me", UNREAD),
    ("Never like me", UNREAD),
    ("Far from like me", UNREAD),
    ("Anything but like me", UNREAD),
    ("It is neither like me nor not like me", UNREAD),
    ("not somewhat like me", UNREAD),
    ("Not even a little like me", UNREAD),
    ("Not very much like me", UNREAD),
    ("It's not that it isn't like me", UNREAD),
    ("I would never, in any case, say: like me", UNREAD),
    ("Like me? Not really.", UNREAD),
    ("Like me... not!", UNREAD),
    ("Like me, but only a little", UNREAD),
    ("Like me, not at all", UNREAD),
    ("Not like me, not at all", 1, maybe),
    # another sense of the words
    ("People like me would say so", UNREAD),
    ("Many people, like me, would agree", UNREAD),
    ("Would you like me to explain?", UNREAD),
    ("Someone like me cannot tell", UNREAD),
    ("It is more like me than you", UNREAD),
    ("Just like me to forget", UNREAD),
    # hedges, double answers, the whole scale
    ("Maybe like me", UNREAD),
    ("Perhaps somewhat like me", UNREAD),
    ("It could be like me", UNREAD),
    ("Like me if I am tired", UNREAD),
    ("Somewhat like me or a little like me", UNREAD),
    ("Between somewhat like me and like me", UNREAD),
    ("like me / not like me", UNREAD),
    ("Like me. Actually, not like me.", UNREAD),
    ("Very much like me and not like me at all", UNREAD),
    ("not like me at all, not like me, a little like me, somewhat like me, like me", UNREAD),
    ("Options: not like me at all, not like me, like me. Answer: somewhat like me", 4, maybe),
    ("<think>It is like me", UNREAD),
    ("Not like me at all. Just kidding, very much like me.", UNREAD),
    ("Not like me... well, maybe a little like me", UNREAD),
    ("It would be a lie to say very much like me", UNREAD),
    ("More than a little like me", UNREAD),
    ("Somewhat like me rather than like me", UNREAD),
    ("like me not", UNREAD),
    ("Very much like me (not!)", UNREAD),
    ("Not quite like me", UNREAD),
    ("Definitely like me", 5, maybe),
    # refusals, other languages, nothing
    ("I'm sorry, I cannot say.", UNREAD),
    ("I cannot say whether it is like me.", UNREAD),
    ("As an AI, I don't have thoughts of my own.", UNREAD),
    ("Sehr wie ich", UNREAD),
    ("Pas du tout comme moi", UNREAD),
    ("とても私に似ている", UNREAD),
    ("NTA", UNREAD),
    ("", UNREAD),
    ("...", UNREAD),
]

NUMBERS = [
    ("4", 4),
    (" 4.", 4),
    ("**5**", 5),
    ("(6)", 6),
    ("Answer: 6.", 6),
    ("Rating: 2", 2),
    ('{"rating": 3}', 3),
    ("I would say 3 because", 3),
    ("I'd give it a 4.", 4),
    ("My answer is 1", 1),
    ("4/6", 4),
    ("4 out of 6", 4),
    ("On a scale of 1 to 6, I'd say 5.", 5),
    ("On a scale from 1 to 6: 2", 2),
    ("3, because 5 would be too much", 3),
    ("2 - it does not describe me", 2),
    ("5 (like me)", 5),
    ("6, very much like me", 6),
    ("1 = not like me at all", 1, maybe),
    ("four", 4),
    ("I would say three.", 3),
    ("４", 4),
    ("<think>1? 2?</think>3", 3),
    ("4 as I value it", 4),
    ("Not a 3: a 4", UNREAD),
    ("6 out of 10", UNREAD),
    ("4/10", UNREAD),
    ("8/10", UNREAD),
    ("10", UNREAD),
    ("0", UNREAD),
    ("7", UNREAD),
    ("4.5", UNREAD),
    ("4,5", UNREAD),
    ("-3", UNREAD),
    ("50%", UNREAD),
    ("~4", UNREAD),
    ("between 4 and 5", UNREAD),
    ("4-5", UNREAD),
    ("4 or 5", UNREAD),
    ("4, maybe 5", UNREAD),
    ("4. Maybe 5.", UNREAD),
    ("3 to 4", UNREAD),
    ("4 and a half", UNREAD),
    ("less than 3", UNREAD),
    ("at least 4", UNREAD),
    ("I would not say 4", UNREAD),
    ("not 4", UNREAD),
    ("I have 3 reasons", UNREAD),
    ("Of 6 people, 3 would", UNREAD),
    ("1 to 6", UNREAD),
    ("1, 2, 3, 4, 5 or 6", UNREAD),
    ("1. Honest\n2. Kind", UNREAD),
    ("6, not like me at all", UNREAD),
    ("1 (very much like me)", UNREAD),
    ("4th", UNREAD),
    ("4 if I am tired", UNREAD),
    ("no one", UNREAD),
    ("Question 3: 5", UNREAD),
    ("On a scale of 1-10, 4", UNREAD),
    ("4 (scale 1-10)", UNREAD),
    ("four or five", UNREAD),
    ("six out of ten", UNREAD),
    ("4 stars", UNREAD),
    ("4/5", UNREAD),
    ("0.4", UNREAD),
    ("4. I can't say more than 4.", 4, maybe),
    ("I'm sorry, as an AI I cannot", UNREAD),
    ("vier", UNREAD),
    ("maybe", UNREAD),
]

LETTERS = [
    ("A", "A"),
    ("b", "B"),
    ("(B)", "B"),
    ("B.", "B"),
    ("**B**", "B"),
    ("B. I tell her", "B"),
    ("(A) because it is kinder", "A"),
    ("Option A", "A"),
    ("Answer: B", "B"),
    ("I choose B.", "B"),
    ("My choice is A, since it is kinder.", "A"),
    ("The best option is B", "B"),
    ("A, not B", "A"),
    ("A. B is worse.", "A"),
    ("A. Option B would hurt her.", "A"),
    ("I keep silent", "A"),
    ("I tell her.", "B"),
    ("<think>A or B</think>B", "B"),
    ("A good choice is B", "B", maybe),
    ("I can't choose A", UNREAD),
    ("not B", UNREAD),
    ("I would not choose A", UNREAD),
    ("Neither A nor B", UNREAD),
    ("A or B", UNREAD),
    ("Both A and B", UNREAD),
    ("A and B", UNREAD),
    ("A? No.", UNREAD),
    ("A. Wait, B.", UNREAD),
    ("A. I tell her", UNREAD),
    ("A friend would know", UNREAD),
    ("C", UNREAD),
    ("Cake", UNREAD),
    ("A. I keep silent\nB. I tell her", UNREAD),
    ("A is not my choice", UNREAD),
    ("Choice A is wrong, B is right", UNREAD),
    ("Not A. B", "B"),
    ("I'd go with A, definitely not B", "A"),
    ("B > A", UNREAD),
    ("AB", UNREAD),
    ("A mi me gusta", UNREAD),
    ("I cannot answer that.", UNREAD),
]

YES_NO = [
    ("Yes", "yes"),
    ("no", "no"),
    ("No.", "no"),
    ("YES!", "yes"),
    ("No, because it hurts.", "no"),
    ("Yes, it praises honesty.", "yes"),
    ("No, not at all.", "no"),
    ("My answer: no", "no"),
    ("The answer is yes.", "yes"),
    ("No. A yes would need more.", "no"),
    ("No, because yes would be wrong", "no"),
    ("I would say no", "no"),
    ("Yes and no", UNREAD),
    ("Yes or no?", UNREAD),
    ("yes/no", UNREAD),
    ("Yes, if it is legal", UNREAD),
    ("Yes? I am not sure.", UNREAD),
    ("Yes. Actually, no.", UNREAD),
    ("No - I mean yes", UNREAD),
    ("No doubt about it", UNREAD),
    ("No one would", UNREAD),
    ("not yes", UNREAD),
    ("I can't say yes", UNREAD),
    ("I would not say no", UNREAD),
    ("No estoy seguro", UNREAD),
    ("Ja", UNREAD),
    ("It depends", UNREAD),
    ("I'm sorry, but I can't help with that.", UNREAD),
    ("No, I can't help with that.", UNREAD),
    ("Yes. I'm sorry to hear it.", "yes"),
    ("No, never", "no"),
    ("I am not saying yes", UNREAD),
    ("Yes!!! No!!!", UNREAD),
    ("No way, yes!", UNREAD),
]

AGREE = [
    ("Agree", "agree"),
    ("I agree.", "agree"),
    ("I strongly agree", "strongly agree"),
    ("Strongly disagree, because it is cruel", "strongly disagree"),
    ("disagree", "disagree"),
    ("I do not agree", UNREAD),
    ("I don't disagree", UNREAD),
    ("I neither agree nor disagree", UNREAD),
    ("I can't agree", UNREAD),
    ("I agree in part", UNREAD),
    ("Agree, somewhat", UNREAD),
    ("I wouldn't say I strongly agree", UNREAD),
    ("agree/disagree", UNREAD),
]


def question(answers, options=(), order="ascending"):
    item = Item(id="i", text="I am honest.", value="", options=options)
    return Question(
        item=item, context=0, wording="w", order=order, prompt="Asked", answers=tuple(answers)
    )


def holds(right, reading, *mark):
    return reading == right or (bool(mark) and reading is UNREAD)


def named(text, asked):
    reading = read(text, asked)
    assert (reading.chosen >= 0) == (reading.status == "parsed")
    return asked.answers[reading.chosen] if reading.chosen >= 0 else UNREAD


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize(("text", "right", "mark"), [(t, r, m) for t, r, *m in LIKENESS])
def test_a_phrase_is_read_rightly_or_not_at_all(text, right, mark, order):
    reading = read(text, question(PHRASES, order=order))
    assert holds(right, reading.chosen + 1 if reading.chosen >= 0 else UNREAD, *mark)


@pytest.mark.parametrize(("text", "right", "mark"), [(t, r, m) for t, r, *m in NUMBERS])
def test_a_number_is_read_rightly_or_not_at_all(text, right, mark):
    reading = named(text, question("123456"))
    assert holds(right, int(reading) if reading else UNREAD, *mark)


@pytest.mark.parametrize(("text", "right", "mark"), [(t, r, m) for t, r, *m in LETTERS])
def test_a_letter_is_read_rightly_or_not_at_all(text, right, mark):
    options = (Action("I keep silent", ()), Action("I tell her", ()))
    assert holds(right, named(text, question("AB", options)), *mark)


@pytest.mark.parametrize(
    ("options", "text", "right"),
    [(("yes", "no"), *row) for row in YES_NO]
    + [(("strongly disagree", "disagree", "agree", "strongly agree"), *row) for row in AGREE],
)
def test_a_word_is_read_rightly_or_not_at_all(options, text, right):
    choice, status = read_choice(text, options)
    assert (choice or UNREAD) == right
    assert (status == "parsed") == bool(choice)


def test_the_list_is_long_and_most_of_what_can_be_read_is():
    every = [*LIKENESS, *NUMBERS, *LETTERS, *YES_NO, *AGREE]
    assert len({(len(row), row[0], row[1]) for row in every}) >= 200
    readable = [row for row in every if row[1] is not UNREAD]
    assert sum(len(row) == 2 for row in readable) >= 0.9 * len(readable)


def test_a_phrase_with_a_number_must_stand_in_its_place():
    assert read("5: like me", question(PHRASES)).chosen == 4
    assert read("like me (5/6)", question(PHRASES)).chosen == 4
    assert read("2: like me", question(PHRASES)).chosen == -1
    assert read("like me (2 out of 6)", question(PHRASES)).chosen == -1
    assert read("2. like me", question(PHRASES, order="descending")).chosen == 4
    assert read("like me. I read 2 books.", question(PHRASES)).chosen == 4


def test_numbers_of_a_turned_scale_go_with_its_words():
    assert read("1, very much like me", question("123456", order="descending")).chosen == 0
    assert read("6, very much like me", question("123456", order="descending")).chosen == -1


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot answer that.", True),
        ("As an AI language model, I have no values.", True),
        ("Unfortunately, I am unable to choose.", True),
        ("I would rather not answer this.", True),
        ("It is hard to tell, and I will not choose between them.", True),
        ("I tell the truth. I won't lie to a friend.", False),
        ("Honesty matters; I can't wait to see her.", False),
        ("She said that she was sorry.", False),
    ],
)
def test_a_refusal_is_told_from_an_answer_that_says_what_one_will_not_do(text, refuses):
    assert is_refusal(text) == refuses


WORDS = ["not", "n't", "4", "6", "/", "10", "-", ".", ",", "?", "I", "say", "yes", "no", "A", "B"]
TAGS = ["is", "or", "because", "as an ai", "<think>", "</think>", "**"]
SIGNS = ["\n", " ", "९", "½", "\u202e", "\x1b[31m", "\x00", "ß", "İ", "9" * 5000, "\ud800"]
PIECES = st.sampled_from([*PHRASES, *WORDS, *TAGS, *SIGNS, "out of"])


@given(st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=40).map(" ".join)))
@example("as an ai " * 2000)
@example("<think>" * 2_500)
@example("like me " * 100_000)
@example("1 " * 5_000)
@example("not like me " * 1_500)
@example("9" * 15_000 + " out of 6")
@example("(" * 15_000)
@example("_" * 15_000)
@example("\n" * 50_000)
@example("a" + "_" * 50_000 + "a")
@example("> " * 50_000)
def test_hostile_replies_are_read_or_kept_as_unread(text):
    def every_reader():
        for answers in (PHRASES, "123456", "AB", ("yes", "no"), ()):
            reading = read(text, question(answers))
            assert -1 <= reading.chosen < max(len(answers), 1)
        return read_number(text, 0, 10)

    survives(every_reader)
