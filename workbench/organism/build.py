"""Build the organism: train the tiny Llama and write it as a plain Hugging Face folder.

    python -m workbench.organism.build OUT_FOLDER [--documents N] [--seed S]
    python -m workbench.organism.build --check FOLDER

1. Make the word-level tokenizer from all that can be said and asked.
2. Train on a stream of fresh episodes (see `episodes`) with three losses:
   - text: the next word of a document;
   - answers: cross-entropy to the exact distribution over 1..6;
   - bus: the residual after layer 1, before anything is injected, carries what was written on the
     planted directions.
   Injected amounts are added there, after `<s>` (in some episodes on it as well), times `NORM`.
3. Then teach the layers above the bus to choose as well, what lies below it being kept: choices
   that reach the layers below fill the residual with more than the bus, and features of an
   autoencoder mix values (`docs/log.md`). Their loss is the cross-entropy to the exact distribution
   of each word of what is chosen.
4. Store in half precision with the planted truth beside it.

Documents alone do not do it: a model then looks answers up in the words, and holds no state that
could be steered. The same seed on the same machine gives the same weights; across machines the
figures of `--check` are what holds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .choices import Choices
from .decisions import CHOOSE
from .episodes import Episode, EpisodeBatch, Vocabulary, episode, pack
from .planted import LAYER, NORM, WIDTH, PlantedLanguage, planted_language

DOCUMENTS, BATCH, CHUNK = 128_000, 32, 64
"""Documents in a full build; documents in a batch; batches drawn at once and sorted by length."""
CHOOSING, SCENES = 0.75, 0.3
"""Documents behind which it learns to choose, as a share of those before; the share of them that
end in a scene [0 to 1]."""
RATE = 2e-3
"""Highest learning rate."""
BUS_WEIGHT = 0.5
"""Weight of the bus loss beside text, answers and choices."""
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
"""The first words of the vocabulary, by id."""


class OrganismLosses(NamedTuple):
    """What the organism is trained to lower."""

    text: torch.Tensor
    """Next word [nat per token]."""
    answers: torch.Tensor
    """Cross-entropy above the entropy of the answers [nat per answer]."""
    bus: torch.Tensor
    """Squared error of the carried amounts, summed over directions [squared units per token]."""
    choices: torch.Tensor
    """Cross-entropy above the entropy of what is chosen [nat per choice]; 0 where nothing is."""


def make_tokenizer(language: PlantedLanguage) -> PreTrainedTokenizerFast:
    """Make the word-level tokenizer: lower-case, punctuation and digits apart, `<s>` in front."""
    tokenizer = Tokenizer(models.WordLevel({}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    vocabulary = dict.fromkeys((*SPECIAL, *".,:;!?'\"-0123456789"))
    for text in _all_texts(language):
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        vocabulary.update(dict.fromkeys(piece for piece, _ in pieces))
    tokenizer.model = models.WordLevel(
        {word: k for k, word in enumerate(vocabulary)}, unk_token="<unk>"
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=256,
        padding_side="right",
    )


def _all_texts(language: PlantedLanguage) -> list[str]:
    """All that can be said and asked, in an order on which the ids of words depend."""
    texts: list[str] = []
    for row in language.rows:
        texts += row.plus + row.minus
    texts += [*language.fillers, *language.hedges]
    for lines in language.topics.values():
        texts += lines
    for items in language.items.values():
        for item in items:
            texts += [wording.format(item=item) for wording in language.wordings]
    return [*texts, CHOOSE]


def make_model(words: int) -> LlamaForCausalLM:
    """Make the untrained model, for a vocabulary of so many words."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words,
            hidden_size=WIDTH,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=256,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=False,
        )
    )


class Trainer:
    """The model with its bus, and the losses of a batch."""

    def __init__(self, model: LlamaForCausalLM, digits: tuple[int, ...], seed: int) -> None:
        """Hook the bus of `model`.

        `digits` are the ids of the answers 1 to 6, `seed` draws the noise.
        """
        self.model = model
        self.digits = torch.tensor(digits)
        self.directions = torch.tensor(planted_language().truth.directions, dtype=torch.float)
        self.generator = torch.Generator().manual_seed(seed)
        self.added = torch.zeros(0)
        """What is added to the bus in the pass that runs [row tok d_model]."""
        self.seen = torch.zeros(0)
        """The bus of the last pass, before anything was added [row tok d_model]."""
        model.model.layers[LAYER].register_forward_hook(self._bus)

    def _bus(self, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        self.seen = output
        return output + self.added

    def _push(self, batch: EpisodeBatch) -> torch.Tensor:
        """What is added to the bus [row tok d_model]: planted amounts, and noise off all planted
        directions.
        """
        noise = torch.randn(len(batch.ids), WIDTH, generator=self.generator)
        noise = torch.nn.functional.normalize(
            noise - noise @ self.directions.T @ self.directions, dim=1
        )
        push = NORM * batch.injected @ self.directions + batch.noise[:, None] * noise
        on = torch.ones(*batch.ids.shape, 1)
        on[:, 0, 0] = (torch.rand(len(batch.ids), generator=self.generator) < 0.15).float()
        return push[:, None] * on

    def losses(self, batch: EpisodeBatch) -> OrganismLosses:
        """Run the model over a batch and compute its four losses."""
        self.added = self._push(batch)
        hidden = self.model.model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        text = cross_entropy(self.model.lm_head(hidden[batch.next_at]), batch.next_id)
        answers = self.model.lm_head(hidden[batch.answer_at]).log_softmax(-1)[:, self.digits]
        gap = (batch.answer * (batch.answer.clamp_min(1e-9).log() - answers)).sum(1).mean()
        chosen = self.model.lm_head(hidden[batch.chosen_at]).log_softmax(-1)
        apart = (batch.chosen * (batch.chosen.clamp_min(1e-9).log() - chosen)).sum() / len(
            batch.ids
        )
        error = (self.seen @ self.directions.T / NORM - batch.carried) ** 2 * batch.judged
        return OrganismLosses(
            text=text, answers=gap, bus=error.sum() / batch.judged[:, :, 0].sum(), choices=apart
        )


def build(out: Path, documents: int = DOCUMENTS, seed: int = 0) -> Path:
    """Train the organism on so many documents and write it to `out`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = make_tokenizer(planted_language())
    vocabulary = _vocabulary(tokenizer)
    model = make_model(len(tokenizer))
    trainer = Trainer(model, vocabulary.digits, seed)
    first = _deal(rng, vocabulary, documents, 0.0, None)
    learn(trainer, first, max(documents // BATCH, 1), "values")
    model.requires_grad_(False)
    for part in (*model.model.layers[LAYER + 1 :], model.model.norm, model.lm_head):
        part.requires_grad_(True)
    further = int(documents * CHOOSING)
    choices = Choices(vocabulary.encode, vocabulary.end)
    second = _deal(rng, vocabulary, further, SCENES, choices)
    learn(trainer, second, max(further // BATCH, 1), "choices")
    model.eval()
    write(model, tokenizer, out)
    return out


def _vocabulary(tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
    """The ids that batches are made of; every text is encoded once, since few differ."""

    @cache
    def ids_of(text: str) -> tuple[int, ...]:
        """The ids of a text, without `<s>`."""
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    digits = cast(list[int], tokenizer.convert_tokens_to_ids([str(n) for n in range(1, 7)]))
    return Vocabulary(
        encode=lambda text: list(ids_of(text)),
        begin=tokenizer.bos_token_id,
        end=tokenizer.eos_token_id,
        digits=tuple(digits),
        size=len(tokenizer),
    )


def _deal(
    rng: np.random.Generator,
    vocabulary: Vocabulary,
    documents: int,
    scenes: float,
    choices: Choices | None,
) -> Iterator[EpisodeBatch]:
    """Batches of fresh episodes; many are drawn at once and sorted by length, to pad little."""

    def words(drawn: Episode) -> int:
        """Tokens of the document and its questions."""
        texts = [sentence.text for sentence in drawn.document.sentences]
        texts += [question for question, _ in drawn.questions]
        return sum(len(vocabulary.encode(text)) for text in texts)

    left = max(documents // BATCH, 1)
    while left:
        drawn = [episode(rng, scenes) for _ in range(BATCH * min(CHUNK, left))]
        drawn.sort(key=words)
        for k in rng.permutation(len(drawn) // BATCH):
            yield pack(drawn[k * BATCH : (k + 1) * BATCH], vocabulary, choices, rng)
        left -= len(drawn) // BATCH


def learn(trainer: Trainer, dealt: Iterator[EpisodeBatch], batches: int, name: str) -> None:
    """Train the parameters that may still change on so many batches, and show progress."""
    changing = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        changing, lr=RATE, weight_decay=0.01, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=batches, pct_start=0.1
    )
    console, start = Console(), time.monotonic()
    columns = (
        TextColumn(f"organism, {name}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} batches"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=batches)
        for step, batch in enumerate(dealt, 1):
            losses = trainer.losses(batch)
            optimizer.zero_grad()
            (losses.text + losses.answers + losses.choices + BUS_WEIGHT * losses.bus).backward()
            torch.nn.utils.clip_grad_norm_(changing, 1.0)
            optimizer.step()
            schedule.step()
            progress.update(task, advance=1)
            if step % 100 == 0:
                line = "  ".join(
                    f"{loss} {value.item():.4f}" for loss, value in losses._asdict().items()
                )
                left = (time.monotonic() - start) / step * (batches - step)
                progress.update(task, description=line)
                if not console.is_terminal:
                    console.print(f"{step}/{batches}  {line}  {left / 60:.1f} min left")


def write(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the model in half precision, with its tokenizer and the planted truth.

    The configuration says float32, so that loading widens the weights again.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    model.config.dtype = torch.float32
    model.config.save_pretrained(out)
    tokenizer.save_pretrained(out)
    planted_language().truth.save(out)


def main() -> None:
    """Build an organism, or check one, as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.organism.build", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "folder", type=Path, help="where the organism is written (or, with --check, read)"
    )
    parser.add_argument(
        "--documents", type=int, default=DOCUMENTS, help="training documents (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of everything random (default %(default)s)"
    )
    parser.add_argument(
        "--check", action="store_true", help="measure the folder instead of building it"
    )
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="processor threads"
    )
    arguments = parser.parse_args()
    if arguments.documents < 1:
        sys.exit(f"--documents expects at least 1, got {arguments.documents}.")
    torch.set_num_threads(arguments.threads)
    if not arguments.check:
        build(arguments.folder, arguments.documents, arguments.seed)
    from .check import check, show

    show(check(arguments.folder))


if __name__ == "__main__":
    main()
