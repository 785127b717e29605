"""Hard prompts: the wish that a value be held, written as a text before the question.

1. On a general model the sentences of a TOML file (`sentences`, with `{name}` and `{definition}` of
   the value) state the wish.
2. The organism reads no instructions: its prompts are sentences of its own language in which the
   value is held, none of which stands in any measured question.
3. They are asked of the unsteered model, in parts beside those of a sweep.
4. The dose is the number of sentences: the ladder 1, 2, 3, ... has as many steps as there are
   strengths.

Left out: prompts that a language model optimises, and examples of answers (few-shot).
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.errors import BadInput, NotFound
from feature_store.progress import Progress
from feature_store.records import Value
from feature_store.runs import Work
from workbench import organism
from workbench.measuring.questions import Question, expected_ratings
from workbench.sweeps import sweep
from workbench.sweeps.arms import Planned

if TYPE_CHECKING:
    from sae_training.engine.model import Model

SHIPPED = Path(__file__).with_name("value_prompts.toml")


def ladder(value: Value, steps: int, sentences: Sequence[str]) -> list[str]:
    """Prompts of 1 to `steps` sentences of a file."""
    told = [
        sentences[k % len(sentences)].format(name=value.name, definition=value.definition)
        for k in range(steps)
    ]
    return [" ".join(told[: k + 1]) for k in range(steps)]


def organism_ladder(value: Value, steps: int, asked: Sequence[str], seed: int) -> list[str]:
    """Prompts of 1 to `steps` sentences of the organism's language, none of which occurs in what
    is asked.
    """
    told = organism.held_sentences(value.id, steps, asked, seed)
    return [" ".join(told[: k + 1]) for k in range(steps)]


def read(file: str) -> list[str]:
    """The sentences of a file, the shipped ones where empty.

    Raises BadInput where a sentence cannot be filled in.
    """
    path = Path(file) if file else SHIPPED
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("sentences", [])
        for sentence in found:
            sentence.format(name="", definition="")
    except FileNotFoundError:
        raise NotFound(f"There is no file of prompts {path}.") from None
    except (
        tomllib.TOMLDecodeError,
        UnicodeDecodeError,
        AttributeError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
    ) as error:
        raise BadInput(
            f"{path.name}: sentences are texts with {{name}} and {{definition}} in them, got"
            f" {error}."
        ) from None
    if not found:
        raise BadInput(f'{path.name} should hold a list, sentences = ["..."], got none.')
    return found


def before(prompt: str, question: str) -> str:
    """The question after the prompt: on a new line where the question has lines, else after a
    space.
    """
    return f"{prompt}{_joint(question)}{question}" if prompt else question


def tokens(model: "Model", prompt: str, question: Question) -> int:
    """Tokens that the prompt adds to a question."""
    whole, bare = model.tokenize([before(prompt, question.prompt), question.prompt], prompt=True)
    return len(whole) - len(bare)


def measure(
    work: Work,
    model: "Model",
    planned: list[Planned],
    asked: list[Question],
    neutral: list[str],
    options: list[str],
    progress: Progress,
) -> tuple[pa.Table, pa.Table]:
    """`(ratings, damage)` of the arms with a prompt as further parts of a sweep's, value by value,
    and all parts of both.

    Damage counts the neutral text's own tokens after the prompt, less the same tokens' loss with
    nothing before them.
    """
    from sae_training.engine.losses import loss_after
    from sae_training.engine.neighbours import score

    told = [(k, one) for k, one in enumerate(planned) if one.prompt]
    groups = [
        [pair for pair in told if pair[1].value == value]
        for value in dict.fromkeys(one.value for _, one in told)
    ]
    first, done = -(-(len(planned) - len(told)) // sweep.CHUNK), work.done("ratings")
    own = [ids[: model.context] for ids in model.tokenize(neutral)]
    # The first token has no loss without a prompt, so it is read and not counted with one either.
    starts, texts = [ids[:1] for ids in own], [ids[1:] for ids in own]
    bare = [[] if start == [model.first_token] else start for start in starts]
    if done.issuperset(range(first, first + len(groups))):
        return work.parts("ratings"), work.parts("damages")
    base = expected_ratings(
        score(model, [q.prompt for q in asked], options).double().numpy(), asked
    )
    for number, group in enumerate(groups):
        if first + number not in done:
            prompts = [before(one.prompt, q.prompt) for _, one in group for q in asked]
            logprobs = score(model, prompts, options).double().numpy()
            rated = expected_ratings(logprobs.reshape(len(group), len(asked), -1), asked)
            if not np.isfinite(rated).all():
                raise BadInput(
                    f"After a prompt for {group[0][1].value} the model gives NaN. Load it with"
                    " another --dtype."
                )
            prefixes = model.tokenize([one.prompt + _joint(asked[0].prompt) for _, one in group])
            harm = [
                loss_after(model, [prefix + start for start in bare], texts)
                - loss_after(model, starts, texts)
                for prefix in prefixes
            ]
            rows = np.array([k for k, _ in group])
            work.part(
                "damages",
                first + number,
                sweep.damage_table(rows, np.stack([one.double().numpy() for one in harm])),
            )
            work.part("ratings", first + number, sweep.ratings_table(rows, asked, rated, base))
        progress("asking after prompts", number + 1, len(groups))
    return work.parts("ratings"), work.parts("damages")


def _joint(question: str) -> str:
    return "\n" if "\n" in question else " "
