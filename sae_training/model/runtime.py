"""Runtime: any Hugging Face causal language model, read and steered.

1. A plain Hugging Face module and forward hooks, nothing in between. How texts become ids stands in
   `text_reader.py`.
2. `residuals` stops the forward pass at the last layer that is asked for. The model's last layer
   gives its own output, before the final norm (unlike Hugging Face's `hidden_states`).
3. `with model.steered(edit, layer)` is one forward hook, taken away in `finally`: logits afterwards
   are bit-identical to before. The engine tells the edit which tokens are padding, prompt or
   generated.
4. One lock: a thread that runs or steers the model has it alone, so sessions of an app can share
   one model.

Left out: training, encoder-decoder models, batching across threads. Generation is in `generate.py`,
the scoring of answer options in `scoring.py`, running only the layers above a site in `resume.py`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from feature_store.errors import BadInput
from feature_store.records import Site
from sae_training.model import families, sites
from sae_training.model.edits import Edit, Frame, by_prompt, prompt_frame, settle
from sae_training.model.text_reader import TextReader

LOGITS = 2**27
"""Logits held at once when only their loss is wanted [numbers]; a batch is cut into as few row
groups as fit."""


CENTRED = ("gpt2", "gpt_neo", "gptj", "gpt_neox", "opt")
"""Families whose embedding enters the first layer's LayerNorm as it is, and whose layers read the
residual through a LayerNorm alone."""
FORWARD = frozenset({"attention_mask", "position_ids", "use_cache", "logits_to_keep"})
"""Keywords that a family's forward pass may lack."""
DEPTHS = ("decoder_layers", "num_decoder_layers", "num_hidden_layers")
"""Names under which configurations hold the number of decoder layers."""

Measured = TypeVar("Measured")

Change = Callable[[Tensor], Tensor]
"""Sees a residual [row tok d_model] and gives the one that the model goes on with."""


class _Reached(Exception):
    """The layer that was asked for has run; the rest of the forward pass is not needed."""


class Runtime(TextReader):
    """A causal language model, its tokenizer, and the ways to read and steer it.

    For example:

        residual = runtime.residuals(ids, mask, Site(8))
        with runtime.steered(edit, Site(8)):
            logits = runtime.logits(ids, mask)
    """

    def __init__(
        self, module: nn.Module, tokenizer: Any, name: str, revision: str = "", chat: bool = False
    ) -> None:
        """Take a loaded module; `tokenizer` may be None for work on ids alone.

        `open_model` opens a folder or hub id.
        """
        super().__init__(module, tokenizer, name, chat)
        # `nn.Module` knows neither the configuration nor the embedding of a Hugging Face model.
        config = cast(Any, module).config.get_text_config()
        # Of a model that was cut from an encoder and a decoder, the decoder counts.
        depths = (getattr(config, name, None) for name in DEPTHS)
        self.revision = revision
        """Commit of the hub snapshot, or checksum of the folder."""
        self.d_model: int = getattr(config, "hidden_size", 0)
        """Width of the residual stream."""
        self.n_layers: int = next((depth for depth in depths if isinstance(depth, int)), 0)
        """Decoder layers."""
        self.path, self.layers = sites.layers(module, self.n_layers)
        """Module path of the decoder layers, and the layers."""
        self.context: int = _context(config, tokenizer)
        """Longest sequence that the model reads [tokens]."""
        self.lock = threading.RLock()
        """Held by the thread that runs or steers the model."""
        self.edits: list[Edit] = []
        """Edits of the open `steered` blocks, innermost last."""
        self.frame: Frame | None = None
        """What each token is in the pass that runs; None between passes."""
        self.pass_rows: slice | Tensor = slice(None)
        """Rows of the open edits that take part in the pass that runs."""

    @property
    def device(self) -> torch.device:
        """Where ids go in; with several accelerators, that of the embedding."""
        return self.module.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.module.dtype

    @property
    def pinned(self) -> str:
        """What a run pins of the model: its revision, that it was kept from thinking, its day.

        The last two stand there where its chat template thinks first, or tells the day.
        """
        thought = " without thought" if self.thinks else ""
        day = f" on {self.today}" if self.tells_day else ""
        return f"{self.revision}{thought}{day}"

    @property
    def identity(self) -> str:
        """What answers are kept and judged under: name, revision, number format, thought and day.

        The number format stands there where it is not float32, the others as in `pinned`.
        """
        parts = [f"{self.name}@{self.revision[:12]}"]
        if self.dtype != torch.float32:
            parts.append(str(self.dtype).removeprefix("torch."))
        if self.thinks:
            parts.append("without thought")
        if self.tells_day:
            parts.append(f"on {self.today}")
        return " ".join(parts)

    @property
    def machine(self) -> str:
        """What else decides the last digits: the kind of device, how it multiplies, and threads."""
        if self.device.type == "cpu":
            kind, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
            return f"cpu {kind}, {threads} threads, torch {torch.__version__}"
        name = self.device.type
        if name == "cuda":
            name = torch.cuda.get_device_name(self.device)
        products = torch.get_float32_matmul_precision()
        return f"{name}, float32 products {products}, torch {torch.__version__}"

    @cached_property
    def tuples(self) -> bool:
        """Whether a layer returns (residual, ...), as older families do, instead of the
        residual.
        """
        return self._measured(families.check)

    @cached_property
    def accepted(self) -> frozenset[str]:
        """Keywords that the module's forward pass names."""
        return families.accepted(self)

    @cached_property
    def numbers_tokens(self) -> bool:
        """Whether the family takes positions of ours."""
        return self._measured(families.numbers_tokens)

    @cached_property
    def padding_read(self) -> frozenset[str]:
        """Sides on which padding changes what the tokens beside it give: left, right."""
        return self._measured(families.padding_read)

    @cached_property
    def memory(self) -> str:
        """Keyword under which the family takes its memory of the tokens before; "" without one."""
        return self._measured(families.memory)

    def check(self) -> None:
        """Raise Incompatible, with the family's name, for one that cannot be read and steered."""
        _ = self.tuples  # measured once, by `families.check`

    def _measured(self, measure: "Callable[[Runtime], Measured]") -> Measured:
        """Measure something on the model as it is, whatever hooks are set."""
        with self.lock, families.unhooked(self.module):
            return measure(self)

    @cached_property
    def centres(self) -> bool:
        """Whether taking the mean off the residual changes nothing that is read from it.

        So it is where every norm is a LayerNorm and stands before whatever reads the stream.
        """
        config = self.module.config.get_text_config()
        norms = [part for part in self.layers.modules() if "norm" in type(part).__name__.lower()]
        return (
            config.model_type in CENTRED
            and getattr(config, "do_layer_norm_before", True)
            and bool(norms)
            and all(isinstance(norm, nn.LayerNorm) for norm in norms)
        )

    @cached_property
    def stop_tokens(self) -> frozenset[int]:
        """Tokens that end a generation."""
        ends = getattr(self.module.generation_config, "eos_token_id", None)
        ends = [ends] if isinstance(ends, int) else list(ends or [])
        end = getattr(self.tokenizer, "eos_token_id", None)
        return frozenset([*ends, *([] if end is None else [end])])

    def residuals(
        self,
        ids: Int[Tensor, "row tok"],
        mask: Bool[Tensor, "row tok"],
        site: Site,
    ) -> Float[Tensor, "row tok d_model"]:
        """Read the residual stream at a site; the forward pass stops there.

        `mask` is true at tokens and false at padding.

            model.residuals(ids, mask, Site(5, "resid_pre"))  # [row, tok, d_model]
        """
        return self.residuals_at(ids, mask, [site])[0]

    def residuals_at(
        self, ids: Int[Tensor, "row tok"], mask: Bool[Tensor, "row tok"], where: Sequence[Site]
    ) -> list[Float[Tensor, "row tok d_model"]]:
        """Read the residual stream at several sites; one forward pass, which stops at the last.

        They come in the order of `where`.

            middle, late = model.residuals_at(ids, mask, [Site(8), Site(15)])
        """
        boundaries = [sites.boundary(site, self.n_layers) for site in where]
        last = max(boundaries)
        reached: dict[int, Tensor] = {}

        def keep(at: int, hidden: Tensor) -> Tensor:
            """Take the residual, and end the pass at the last boundary."""
            reached[at] = hidden
            if at == last:
                raise _Reached
            return hidden

        with self.lock, ExitStack() as hooks:
            for at in set(boundaries):
                hooks.enter_context(self.hooked(at, partial(keep, at)))
            with suppress(_Reached):
                self.forward(ids, mask, logits_to_keep=1)
        return [reached[at] for at in boundaries]

    def logits(
        self, ids: Int[Tensor, "row tok"], mask: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok vocab"]:
        """Run the whole model: the logits after every token [nats, not normalised]."""
        with self.lock:
            return self.forward(ids, mask).logits

    def loss(
        self, ids: Int[Tensor, "row tok"], mask: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, " row"]:
        """Average the next-token loss of each row [nats a token].

        NaN for a row of fewer than two tokens.
        """
        group = max(1, LOGITS // (ids.shape[1] * self.module.config.get_text_config().vocab_size))
        with self.lock:
            return torch.cat(
                [self._loss(ids, mask, slice(at, at + group)) for at in range(0, len(ids), group)]
            )

    def _loss(self, ids: Tensor, mask: Tensor, rows: slice) -> Tensor:
        logits = self.forward(ids[rows], mask[rows], rows=rows).logits[:, :-1].float()
        target = ids[rows][:, 1:].to(logits.device)
        counted = (mask[rows][:, 1:] & mask[rows][:, :-1]).to(logits.device)
        nats = logits.logsumexp(-1) - logits.gather(-1, target[..., None])[..., 0]
        return (nats * counted).sum(-1) / counted.sum(-1)

    @contextmanager
    def steered(self, edit: Edit, site: Site) -> Iterator["Runtime"]:
        """Edit the residual at a site inside the block; after it the model is exactly as before.

        Row i of the edit steers row i of each batch; an edit of one row steers all. An edit that
        depends on the prompt is settled in the pass that holds the prompt's last token, and the
        tokens generated after it are steered in the same way.

            with model.steered(edit, Site(8)):
                texts = model.generate(prompts, max_new_tokens=20)
        """
        at = sites.boundary(site, self.n_layers)
        settled = edit

        def change(hidden: Tensor) -> Tensor:
            """Apply the rows that take part in this pass."""
            nonlocal settled
            assert self.frame is not None, (
                "a steered model runs through Model, which knows what is padding"
            )
            part = edit if edit.rows == 1 else edit.take(torch.arange(edit.rows)[self.pass_rows])
            if by_prompt(part):
                if self.frame.last.any():
                    settled = settle(part, hidden[self.frame.last.to(hidden.device)])
                part = settled
            return part(hidden, self.frame.where(part.positions).to(hidden.device))

        with self.lock, self.hooked(at, change):
            self.edits.append(edit)
            try:
                yield self
            finally:
                self.edits.pop()

    @property
    def is_steered(self) -> bool:
        """Whether a `steered` block is open."""
        return bool(self.edits)

    @property
    def steered_rows(self) -> int:
        """How many prompts the open `steered` blocks tell apart.

        1 where every prompt is steered alike, or none is.
        """
        return max((edit.rows for edit in self.edits), default=1)

    def forward(
        self,
        ids: Tensor,
        mask: Tensor,
        rows: slice | Tensor = slice(None),
        frame: Frame | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the module once, as whatever hooks are set change it.

        `mask` covers ids and, with a memory, what came before; `rows` of the open edits take part;
        `frame` says what the tokens are, by default that all of them were given. Further keywords
        go to the module. Call it while `lock` is held. Raises Incompatible for a family that cannot
        be read, BadInput for padding on a side on which the family reads it.
        """
        self.check()
        if not bool(mask.all()):
            self._check_padding(mask)
        return self.run(ids, mask, rows, frame, **kwargs)

    def _check_padding(self, mask: Tensor) -> None:
        """Refuse padding that would change what the tokens beside it give."""
        sides = {"left": not bool(mask[:, 0].all()), "right": not bool(mask[:, -1].all())}
        if read := [side for side, padded in sides.items() if padded and side in self.padding_read]:
            raise BadInput(
                f"{self.name} reads padding on the {read[0]} as if it were text. Give it rows of"
                " equal length."
            )

    def run(
        self,
        ids: Tensor,
        mask: Tensor,
        rows: slice | Tensor = slice(None),
        frame: Frame | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the module once, as `forward` does, without a look at what the family can do."""
        ids, mask = ids.to(self.device), mask.to(self.device)
        width = ids.shape[1]
        # A memory that is no keys and values has no place for what came before.
        seen = mask[:, -width:] if families.STATES & kwargs.keys() else mask
        kwargs = {"use_cache": False, "attention_mask": seen.long()} | kwargs
        if self.numbers_tokens:
            place = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -width:]
            kwargs.setdefault("position_ids", place)
        for name in FORWARD - self.accepted:
            kwargs.pop(name, None)
        self.frame, self.pass_rows = frame or prompt_frame(mask), rows
        try:
            with torch.no_grad():
                return self.module(input_ids=ids, **kwargs)
        finally:
            self.frame, self.pass_rows = None, slice(None)

    @contextmanager
    def hooked(self, at: int, change: Change) -> Iterator[None]:
        """Make the residual at boundary `at` into `change(residual)` inside the block.

        `sites.boundary` says which boundary a site is.
        """

        def before(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            """Change what enters the first layer, by position or by keyword."""
            if args:
                return (change(args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

        def after(_: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
            """Change what a layer returns: the residual, or a tuple that begins with it."""
            if isinstance(out, list):
                return [change(out[0]), *out[1:]]
            return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

        if at == 0:
            handle = self.layers[0].register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = self.layers[at - 1].register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()


def _context(config: Any, tokenizer: Any) -> int:
    """Find out how many tokens the model reads, each seeing only what came before it."""
    # Beyond it, the family (Doge) chooses what a token sees by what comes after it.
    kept = getattr(config, "keep_window_size", None)
    if isinstance(kept, int):
        return min(kept, config.max_position_embeddings)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length"):
        if isinstance(length := getattr(config, name, None), int):
            return length
    longest: int = getattr(tokenizer, "model_max_length", 0)
    return longest if 0 < longest < 10**7 else 2048
