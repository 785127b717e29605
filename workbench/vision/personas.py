"""Two ways to give a model a person's eyes (Value-Spectrum; Li et al., ACL 2025).

1. *Simple*: the model is told that it is a person with some traits (`simple_persona`), and is then
   asked whether it likes an image.
2. *ISQ*, the inductive scoring questionnaire: six questions about each image. Four are rated from 1
   to 10 (visual attraction, curiosity, emotional engagement, value expectation), two are yes or no
   and weigh 10 points each (does it fit the preferences, would one act on it):

       S% = 100 (v_a + c_s + e_e + v_e + 10 p_a + 10 a_d) / 60

   and the viewer goes on watching from 60 % on. Ten everywhere and two yeses are 60 points, 100 %.

Words of the questions are ours. Left out: the paper's social-media accounts, whose feeds it scores
instead of answers.
"""

from collections.abc import Mapping, Sequence

from feature_store.errors import BadInput

RATED = {
    "attraction": "How attractive does this image look to you?",
    "curiosity": "How curious are you to see more of this?",
    "emotion": "How much does this image move you?",
    "expectation": "How much would you expect to gain from seeing more of this?",
}
"""Name -> question, answered from 1 to 10."""
DECIDED = {
    "preference": "Does this image fit what you usually like?",
    "action": "Would you like, share or save this image?",
}
"""Name -> question, answered by yes or no."""
HIGHEST = 10
"""Highest rating."""
WEIGHT = 10
"""Points of a yes."""
WHOLE = 60
"""Points in all."""
GOES_ON = 60.0
"""Score from which on the viewer goes on watching [%]."""


def simple_persona(traits: Sequence[str]) -> str:
    """Write the persona of a model from traits in the first person.

    The command line takes it as `--persona`; the model reads it before everything else. Raises
    BadInput without any trait.
    """
    sentences = [trait.strip().rstrip(".") for trait in traits if trait.strip()]
    if not sentences:
        raise BadInput("A persona needs at least one trait, such as 'I hike every weekend'.")
    return (
        f"You are a person of whom this is true: {'. '.join(sentences)}. Answer every question as"
        " this person would."
    )


def isq_score(answers: Mapping[str, int]) -> float:
    """Compute the score of one image by the inductive scoring questionnaire [0 to 100 %].

    `answers` has a rating from 1 to 10 for each of `RATED`, 1 (yes) or 0 (no) for each of
    `DECIDED`. Raises BadInput for anything else.

        isq_score(dict.fromkeys(RATED, 10) | dict.fromkeys(DECIDED, 1))  # -> 100.0
    """
    if set(answers) != RATED.keys() | DECIDED.keys():
        raise BadInput(
            f"The ISQ has the answers {', '.join([*RATED, *DECIDED])}; got"
            f" {', '.join(answers) or 'none'}."
        )
    for name, answer in answers.items():
        low, high = (1, HIGHEST) if name in RATED else (0, 1)
        if answer != int(answer) or not low <= answer <= high:
            raise BadInput(f"{name} is a whole number from {low} to {high}, got {answer}.")
    points = sum(answers[name] for name in RATED) + WEIGHT * sum(answers[name] for name in DECIDED)
    return 100 * points / WHOLE


def goes_on(score: float) -> bool:
    """Tell whether the viewer goes on watching at a score [%]."""
    return score >= GOES_ON
