"""The settings of a training run: what is read, what is trained, and for how long."""

from dataclasses import dataclass
from typing import Annotated, cast, get_args

from feature_store.bounds import HUGE, MANY, Between, Count, CountOrZero, NotNegative, Plugin, Seed
from feature_store.errors import BadInput
from feature_store.records import Point, Site


@dataclass(frozen=True)
class DictionarySettings:
    """What is read, what is trained, and for how long, whichever the layer."""

    model: str = "organism"
    """Folder or hub id of the language model."""
    revision: str = ""
    """Commit of the hub snapshot or checksum of the folder; empty: as it is."""
    point: str = "resid_post"
    """`resid_post` or `resid_pre`."""
    texts: str = "organism"
    """Where the corpus is from, as it stands in what is exported."""
    dtype: str = "float32"
    """Number format of the language model: float32, bfloat16, float16. bfloat16 is read about twice
    as fast where the processor multiplies it; what it costs is measured on a sample and stands with
    the run."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, ..."""
    context: Count = 128
    """Longer texts are read in pieces of this length [tokens]."""
    rows: Count = 128
    """Texts in one forward pass [texts]."""
    engine: Annotated[str, Plugin("engines")] = "fused"
    """Plug-in that takes the steps: `fused` (topk, batchtopk), `triton` (the same on an NVIDIA GPU,
    products of bfloat16), or `sae-lens` (every architecture it has)."""
    architecture: str = "topk"
    """topk, batchtopk; with sae-lens also matryoshka_batchtopk, jumprelu, gated, standard."""
    n_features: Annotated[int, Between(1, 100 * MANY)] = 512
    """Features of the dictionary."""
    k: int = 20
    """Features active on a token, of the topk kinds (mean over the batch for batchtopk)."""
    coefficient: NotNegative = 1.0
    """Weight of the sparsity loss: L0 of jumprelu, L1 of standard and gated."""
    tokens: int = 3_000_000
    """Tokens trained on, repeated ones counted [tokens]."""
    batch_tokens: int = 4096
    """Tokens in one step [tokens]."""
    lr: Annotated[float, Between(0, 1000)] = 1e-3
    """Learning rate of Adam."""
    lr_end: Annotated[float, Between(0, 1000)] = 1e-4
    """Learning rate at the end; it falls to it over the last fifth of the steps."""
    warmup: CountOrZero = 20
    """Steps over which the learning rate and the sparsity loss rise [steps]."""
    aux: NotNegative = 0.03125
    """Weight of the loss that revives dead features, of the topk kinds."""
    dead_tokens: Annotated[int, Between(1, HUGE)] = 400_000
    """A feature that was silent for so many tokens counts as dead while training [tokens]."""
    buffer_tokens: int = 131_072
    """Tokens shuffled together [tokens]."""
    cache: bool = True
    """Keep the residuals on disk and read them back shuffled over the whole corpus; without it
    the model is read again every epoch, and tokens are shuffled in shards of `buffer_tokens`."""
    held_out: float = 0.05
    """Share of the documents that is never trained on [0 to 1, at least one document]."""
    evaluate_every: int = 100
    """Steps between evaluations on held-out tokens [steps]."""
    checkpoint_every: int = 200
    """Steps between checkpoints [steps]."""
    seed: Seed = 0
    """Seed of the split, the orders and the first weights."""

    def site_of(self, layer: int) -> Site:
        """Say where the residuals of a layer are read."""
        return Site(layer=layer, point=cast(Point, self.point))

    def __post_init__(self) -> None:
        """Raises BadInput where a setting is out of its bounds."""
        if self.point not in get_args(Point):
            raise BadInput(f"A site's point is resid_pre or resid_post, got {self.point!r}.")
        for name in (
            "n_features",
            "k",
            "tokens",
            "batch_tokens",
            "buffer_tokens",
            "evaluate_every",
            "checkpoint_every",
            "rows",
        ):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("lr", "lr_end", "coefficient", "aux"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(
                    f"{name} must be a finite number, 0 or more, got {getattr(self, name)}."
                )
        if self.k > self.n_features:
            raise BadInput(
                f"k is {self.k}, but there are only {self.n_features} features. Take a smaller k."
            )
        if not 0 < self.held_out < 1:
            raise BadInput(f"held_out must lie between 0 and 1, got {self.held_out}.")


@dataclass(frozen=True)
class TrainingSettings(DictionarySettings):
    """What is read at which layer, what is trained, and for how long."""

    layer: int = 1
    """0-based decoder layer."""

    @property
    def site(self) -> Site:
        """Where the residuals are read."""
        return self.site_of(self.layer)
