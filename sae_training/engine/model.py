"""Model: any Hugging Face causal language model, read, steered, scored and asked to write.

1. `Runtime` (`sae_training/model/runtime.py`) holds the module, its tokenizer and the hooks that
   read and steer it.
2. `Model` adds what the engine does with it: continuations (`generate.py`) and scores of answers
   (`scoring.py`).

`open_model` (`sae_training/engine/opening.py`) opens one by its address. Left out: training.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from feature_store.progress import StageProgress, silent_stage
from sae_training.engine import generate, scoring
from sae_training.engine.answers import Options
from sae_training.model.runtime import Runtime
from sae_training.model.text_reader import Prompt


class Model(Runtime):
    """A causal language model that can be read, steered, scored and asked to write.

    For example:

        model = open_model("organism")
        model.score(["I"], [" agree", " disagree"])
    """

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        progress: StageProgress = silent_stage,
    ) -> list[str]:
        """Write a continuation of each prompt; greedy at temperature 0.

        `seed` is one for all prompts, or one a prompt. In a `steered` block, row i of the edit
        steers prompt i. `progress` counts steps of a token.

            model.generate(["Once upon a time"], max_new_tokens=20, temperature=0.7, seed=1)
        """
        return generate.generate(self, prompts, max_new_tokens, temperature, seed, progress)

    def stream(
        self, prompt: str, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[str]:
        """Write the continuation of one prompt, piece by piece as it is generated."""
        return generate.stream(self, prompt, max_new_tokens, temperature, seed)

    def score(self, prompts: Sequence[Prompt], options: Options) -> Float[Tensor, "prompt option"]:
        """Score each option as the continuation of each prompt; prompts may have their own.

        The score is the log-probability summed over the option's tokens [nats].

            model.score(["2 + 2 ="], [" 4", " 5"])  # [prompt, option]
        """
        return scoring.score(self, prompts, options)
