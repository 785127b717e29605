"""VisionModel: a vision-language model, whose language side is read and steered like any other
`Model`.

1. `vision:FOLDER-OR-HUB-ID` names one (`open_model`). Without an image it is a `Model` in every
   respect: SAEs are trained on the residual stream of its language model, steering and sweeps work
   as they do elsewhere.
2. With an image the processor that belongs to it prepares text and image. The image stands in the
   first message of the user; a model without a chat template gets it before the text.
3. Prompts whose tokens and image tensors have the same shapes go through together, so nothing is
   padded and every family numbers the positions of its image tokens itself. Scores are full forward
   passes; texts come from the decoding that `generate` uses.
4. An edit sees the tokens of an image as tokens of the prompt, because that is what they are to the
   language model.

Left out: several images in a prompt, video, and steering of the vision tower.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from feature_store.errors import BadInput, Incompatible
from sae_training.engine.generate import PromptBatch, decode, row_seed, steps
from sae_training.engine.model import Model
from sae_training.engine.walk import logprobs
from sae_training.model.edits import prompt_frame
from sae_training.model.loading import load
from sae_training.model.text_reader import Prompt

VISION = "vision:"
"""Before the address of a model that sees."""
TOGETHER = 8
"""Images that go through together."""


class Shown(NamedTuple):
    """A prompt and the image that it is about."""

    prompt: Prompt
    """What is asked."""
    image: Image.Image
    """What is shown, in RGB."""


class VisionModel(Model):
    """A vision-language model, whose language side is read and steered like any `Model`.

    For example:

        model = open_model("vision:FOLDER-OR-HUB-ID")
        model.score_shown([Shown("Is this a cat?", image)], [" yes", " no"])
    """

    def __init__(
        self, module: nn.Module, processor: Any, name: str, revision: str = "", chat: bool = False
    ) -> None:
        """Take a loaded module and the Hugging Face processor that prepares its images."""
        super().__init__(module, processor.tokenizer, name, revision, chat)
        self.processor = processor
        """Its Hugging Face processor."""
        self._lengths: dict[tuple[str, tuple[int, int]], int] = {}

    @classmethod
    def open(cls, address: str, revision: str, dtype: str, device: str, chat: str) -> "VisionModel":
        """Open the model at `vision:FOLDER-OR-HUB-ID`.

        Safetensors only, no code from its repository; the arguments are those of `open_model`.
        """
        where = address.removeprefix(VISION)
        loaded = load(where, revision, dtype, device, "vision")
        processor = loaded.tokenizer
        if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
            raise Incompatible(
                f"{where} brings no processor of images and text (processor_config.json or"
                " preprocessor_config.json). Copy it beside the weights."
            )
        template = getattr(processor, "chat_template", None) or getattr(
            processor.tokenizer, "chat_template", None
        )
        if chat == "on" and not template:
            raise Incompatible(f"{where} has no chat template. Use chat=auto or off.")
        if isinstance(template, dict):  # several by name
            template = template.get("default", "")
        # Where only the tokenizer brings one.
        processor.chat_template = template
        return cls(
            loaded.module, processor, address, loaded.revision, bool(template) and chat != "off"
        )

    def beginning(self, bos: bool | None) -> "VisionModel":
        """Give itself. Raises Incompatible where texts should begin otherwise: what stands before
        an image's tokens is the processor's.
        """
        if bos is None or bos == bool(self.set_around[0]):
            return self
        raise Incompatible(
            f"The SAE's texts began {'with a' if bos else 'without a'} BOS token (prepend_bos), and"
            f" the processor of {self.name} does otherwise. Adopt it for the language model alone."
        )

    def render(self, prompt: Prompt) -> str:
        """Write a prompt as the model reads it, without its image.

        Templates of models that see want messages in parts, and pass over plain text in silence.
        """
        return self._rendered(prompt, 0) if self.chat else super().render(prompt)

    @property
    def template(self) -> str:
        """The processor's chat template; empty where none is used."""
        return self.processor.chat_template if self.chat else ""

    @property
    def template_holder(self) -> Any:
        """What writes by the chat template: the processor."""
        return self.processor

    def with_image(self, prompt: Prompt) -> str:
        """Write a prompt with the sign that stands for its image.

        In the prompt's own text the sign stands for nothing. Raises BadInput where the chat
        template sets another number of signs than one.
        """
        text = self._rendered(prompt, 1) if self.chat else f"{self._sign}\n{self._plain(prompt)}"
        count = text.count(self._sign)
        if count != 1:
            raise BadInput(
                f"The chat template of {self.name} sets {count} signs {self._sign!r} for one image."
                " Use another model, or chat=off."
            )
        return text

    @property
    def _sign(self) -> str:
        """What stands for an image in a prompt's text."""
        return self.processor.image_token

    def _plain(self, text: Prompt) -> str:
        """Take the image's sign out of a text that only mentions it."""
        assert isinstance(text, str), "messages need a chat template"
        return text.replace(self._sign, self._sign.strip("<|>"))

    def _rendered(self, prompt: Prompt, images: int) -> str:
        """Write a conversation by the chat template, images in the user's first message."""
        messages = self.messages(prompt)
        of_user = [number for number, message in enumerate(messages) if message["role"] == "user"]
        first = of_user[0] if of_user else 0
        parts = []
        for number, message in enumerate(messages):
            signs = [{"type": "image"}] * images if number == first else []
            parts.append({**message, "content": [*signs, *message["content"]]})
        return self.by_template(parts, "Leave the persona out, or use chat=off.")

    def message(self, role: str, text: str) -> Mapping[str, Any]:
        """Write one message in parts, as templates of models that see take it."""
        return {"role": role, "content": [{"type": "text", "text": self._plain(text)}]}

    def prepared(self, shown: Shown) -> dict[str, Tensor]:
        """Prepare everything that the forward pass takes, as one row."""
        inputs = self.processor(
            text=[self.with_image(shown.prompt)],
            images=[shown.image],
            return_tensors="pt",
            add_special_tokens=not self.chat,
        )
        ids = inputs["input_ids"]
        given = self.checked([self.without_end(ids[0].tolist())])[0]
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        if len(given) == ids.shape[1]:
            return tensors
        # Whatever goes along the tokens ends where these do.
        return {
            name: value[:, : len(given)] if value.shape[:2] == ids.shape else value
            for name, value in tensors.items()
        }

    def length(self, shown: Shown) -> int:
        """Count the tokens of text and image; the same for images of one size."""
        key = self.with_image(shown.prompt), shown.image.size
        if key not in self._lengths:
            self._lengths[key] = self.prepared(shown)["input_ids"].shape[1]
        return self._lengths[key]

    def score_shown(
        self, shown: Sequence[Shown], options: Sequence[str]
    ) -> Float[Tensor, "prompt option"]:
        """Score each option after each image and text.

        The score is the log-probability summed over the option's tokens [nats]; in a `steered`
        block, that of the steered model.

            model.score_shown([Shown("Is this a cat?", image)], [" yes", " no"])
        """
        answers = self.encode(options, special=False)
        if empty := [option for option, ids in zip(options, answers, strict=True) if not ids]:
            raise BadInput(f"The answer {empty[0]!r} has no tokens. Give each answer a text.")
        out = torch.empty(len(shown), len(options))
        with self.lock:
            for rows, inputs in self._alike(shown):
                for stem in dict.fromkeys(tuple(ids[:-1]) for ids in answers):
                    same = [number for number, ids in enumerate(answers) if tuple(ids[:-1]) == stem]
                    wanted = [
                        [answers[number][at] for number in same] for at in range(len(stem) + 1)
                    ]
                    logits = self._see(inputs, stem)[:, -len(stem) - 1 :]
                    scores = logprobs(logits, wanted).sum(1).cpu()
                    out[torch.tensor(rows)[:, None], torch.tensor(same)] = scores
        return out

    def generate_shown(
        self, shown: Sequence[Shown], max_new_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> list[str]:
        """Write an answer to each image and text; greedy at temperature 0, else by its seed.

        For example:

            model.generate_shown([Shown("What is this?", image)], 20, temperature=0.0, seeds=[0])
        """
        texts = [""] * len(shown)
        for rows, inputs in self._alike(shown):
            ids = inputs.pop("input_ids").tolist()
            inputs.pop("attention_mask", None)
            new: list[list[int]] = [[] for _ in rows]
            draws = [row_seed(seeds[row], 0) for row in rows]
            batch = PromptBatch(ids=ids, rows=range(len(rows)), seeds=draws, inputs=inputs)
            for step in steps(self, batch, max_new_tokens, temperature):
                for row, token in step:
                    new[row].append(token)
            for row, text in zip(rows, decode(self, ids, new), strict=True):
                texts[row] = text
        return texts

    def _alike(self, shown: Sequence[Shown]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Put rows whose tensors have the same shapes together, `TOGETHER` at most.

        Yields their numbers and their inputs as one batch.
        """
        if self.steered_rows > 1:
            raise BadInput(
                f"Images are shown under one steering at a time, got {self.steered_rows}. Steer"
                " with one."
            )
        groups: defaultdict[tuple[Any, ...], list[tuple[int, dict[str, Tensor]]]] = defaultdict(
            list
        )
        for row, prompt in enumerate(shown):
            inputs = self.prepared(prompt)
            key = tuple(sorted((name, *value.shape) for name, value in inputs.items()))
            groups[key].append((row, inputs))
            if len(groups[key]) == TOGETHER:  # before more images are held
                yield self._batch(groups.pop(key))
        for group in groups.values():
            yield self._batch(group)

    def _batch(
        self, group: Sequence[tuple[int, dict[str, Tensor]]]
    ) -> tuple[list[int], dict[str, Tensor]]:
        """Join prepared rows, on the model's device and in its number format."""
        together = {
            name: torch.cat([inputs[name] for _, inputs in group]).to(self.device)
            for name in group[0][1]
        }
        return [row for row, _ in group], {
            name: value.to(self.dtype) if value.is_floating_point() else value
            for name, value in together.items()
        }

    def _see(
        self, inputs: Mapping[str, Tensor], stem: Sequence[int]
    ) -> Float[Tensor, "row tok vocab"]:
        """Run prompts and the tokens of `stem` after them: logits from the last prompt token on."""
        ids, rows = inputs["input_ids"], inputs["input_ids"].shape[0]
        mask = torch.ones(rows, ids.shape[1] + len(stem), dtype=torch.bool, device=ids.device)
        answer = torch.arange(mask.shape[1], device=ids.device).expand_as(mask) >= ids.shape[1]
        given = prompt_frame(mask & ~answer)
        frame = given._replace(real=mask, generated=answer)
        tail = torch.tensor([list(stem)] * rows, dtype=ids.dtype, device=ids.device).view(
            rows, len(stem)
        )
        more = {
            name: _longer(name, value, len(stem))
            for name, value in inputs.items()
            if name not in ("input_ids", "attention_mask")
        }
        return self.forward(
            torch.cat([ids, tail], 1),
            mask,
            frame=frame,
            position_ids=None,
            logits_to_keep=len(stem) + 1,
            **more,
        ).logits


def _longer(name: str, value: Tensor, by: int) -> Tensor:
    """Let the kinds of tokens (text is 0), where a family wants them, go on over an answer."""
    if not name.endswith("token_type_ids"):
        return value
    return nn.functional.pad(value, (0, by))
