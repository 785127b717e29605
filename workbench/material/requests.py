"""What a model is asked so that it writes a corpus itself: requests to persons, or openings.

1. A chat model is told who it is (a system message) and asked for a short text. Persons and
   requests vary, so that the texts do.
2. Another model continues an opening.
3. Pairs are drawn without repetition as long as there are new ones.

Left out: languages other than English.
"""

import itertools
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sae_training.model.text_reader import Prompt

FILE = Path(__file__).with_name("requests.toml")


def requests(chat: bool, n: int, seed: int) -> "list[Prompt]":
    """Draw `n` requests for a chat model, or openings for another model.

    requests(chat=True, n=2, seed=0)[0]
    # [{"role": "system", "content": "You are a judge."}, {"role": "user", "content": ...}]
    """
    written = tomllib.loads(FILE.read_text(encoding="utf-8"))
    prompts: Sequence[Prompt] = written["openings"]
    if chat:
        pairs = itertools.product(written["persons"], written["requests"])
        prompts = [
            [
                {"role": "system", "content": f"You are {person}."},
                {"role": "user", "content": request},
            ]
            for person, request in pairs
        ]
    rng = np.random.default_rng(seed)
    rounds = -(-n // len(prompts))
    drawn = np.concatenate([rng.permutation(len(prompts)) for _ in range(rounds)])[:n]
    return [prompts[place] for place in drawn]
