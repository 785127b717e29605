"""How good an SAE is, on text it was not trained on.

1. `reconstruction`: how much of the residual's variance is missed, how many features speak, how
   many never do.
2. `evaluate` adds what the language model makes of it: its next-token loss and its predictions when
   the residual at the site is replaced by the SAE's reconstruction, beside the clean model and
   beside removing the residual altogether (zero, or the mean residual). First tokens of a row are
   left as they are, as everywhere.
3. recovered = (ablated - spliced) / (ablated - clean): 1 is as good as the clean model, 0 as bad as
   ablation. For KL divergence the clean model is at 0.

Left out: SAEBench's tasks, which need environments of their own.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from feature_store.errors import BadInput
from feature_store.progress import StageProgress, silent_stage
from feature_store.records import Site, Where
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.stream import read
from sae_training.dictionary.texts import Corpus, batches
from sae_training.engine.model import Model

LOGITS = 2**27
"""Logits held at once [numbers]."""
CHUNK = 4096
"""Tokens encoded at once."""


@dataclass(frozen=True)
class Reconstruction:
    """How well an SAE rebuilds the residual, on some tokens."""

    fvu: float
    """Fraction of variance unexplained: squared error over squared distance from the mean
    residual [0 is perfect]."""
    cosine: float
    """Mean cosine of residual and reconstruction [-1 to 1]."""
    l0: float
    """Mean number of active features [features a token]."""
    dead_share: float
    """Share of features that are active on none of these tokens [0 to 1]; falls with the number
    of tokens."""
    tokens: int
    """Tokens looked at."""


@dataclass(frozen=True)
class Evaluation:
    """How well an SAE rebuilds the residual, and what the language model makes of it."""

    fvu: float
    """See `Reconstruction`."""
    cosine: float
    """See `Reconstruction`."""
    l0: float
    """See `Reconstruction`."""
    dead_share: float
    """See `Reconstruction`."""
    tokens: int
    """Tokens looked at."""
    loss_clean: float
    """Next-token loss of the model as it is [nats a token]."""
    loss_spliced: float
    """The same with the reconstruction in place of the residual [nats a token]."""
    loss_zero: float
    """The same with zero in its place [nats a token]."""
    loss_mean: float
    """The same with the mean residual in its place [nats a token]."""
    loss_recovered: float
    """Loss recovered, against zero ablation [1: like the clean model]; NaN where ablation does
    not raise the loss."""
    loss_recovered_mean: float
    """Loss recovered, against mean ablation."""
    kl_spliced: float
    """Divergence of the spliced model's predictions from the clean ones [nats a token]."""
    kl_zero: float
    """The same for zero ablation [nats a token]."""
    kl_recovered: float
    """1 - kl_spliced / kl_zero."""


@dataclass(frozen=True)
class Splice:
    """An edit that replaces the residual of every token by a function of it."""

    replacement: Callable[[Tensor], Tensor]
    """Gives what stands in the place of residuals [tok, d_model]."""
    rows: int = 1
    """The same for every row of a batch."""
    positions: tuple[Where, ...] = ("all",)

    def take(self, rows: Int[Tensor, " n"]) -> "Splice":
        """Give itself: every row is changed alike."""
        return self

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Put the reconstruction in the place of the residual."""
        out = hidden.clone()
        out[where] = self.replacement(hidden[where].float()).to(hidden)
        return out


def reconstruction(sae: SAE, residuals: Iterable[Float[Tensor, "_ d_model"]]) -> Reconstruction:
    """Measure how well an SAE rebuilds residuals, which come in pieces; one pass.

        reconstruction(sae, [tokens.x for tokens in read(model, corpus, sae.site())])

    Raises BadInput where there is no token.
    """
    n = 0
    error = cosine = l0 = square = 0.0
    total = torch.zeros(sae.d_model, dtype=torch.float64)
    alive = torch.zeros(sae.n_features, dtype=torch.bool, device=sae.device)
    for piece in residuals:
        for x in piece.to(sae.device).split(CHUNK):
            x = sae.centre(x)
            features = sae.encode(x)
            out = sae.decode(features, x)
            n += len(x)
            error += float((x - out).double().square().sum())
            cosine += float(functional.cosine_similarity(x, out, dim=1).double().sum())
            l0 += float((features > 0).sum())
            alive |= (features > 0).any(0)
            total += x.double().sum(0).cpu()
            square += float(x.double().square().sum())
    if n == 0:
        raise BadInput("There is no held-out token to evaluate on. Give more or longer texts.")
    variance = square - float(total.square().sum()) / n
    return Reconstruction(
        fvu=error / max(variance, 1e-12),
        cosine=cosine / n,
        l0=l0 / n,
        dead_share=1 - float(alive.float().mean()),
        tokens=n,
    )


def evaluate(
    model: Model,
    sae: SAE,
    corpus: Corpus,
    site: Site,
    progress: StageProgress = silent_stage,
) -> Evaluation:
    """Measure an SAE on a corpus that it should not have seen.

    Raises Incompatible where the SAE does not fit the model, BadInput where there is no token.

        evaluate(model, sae, Corpus(held_out, rows=16), sae.site()).loss_recovered
    """
    sae.check_fits(model)
    mean = torch.zeros(model.d_model, dtype=torch.float64)
    count = 0

    def pieces() -> Iterator[Tensor]:
        """Give the residuals batch by batch, and add them up."""
        nonlocal count
        for tokens in read(model, corpus, site, sae.reading):
            mean.add_(tokens.x.sum(0).double().cpu())
            count += len(tokens.x)
            yield tokens.x

    figures = reconstruction(sae, pieces())
    average = (mean / count).float().to(model.device)
    edits = {
        "spliced": Splice(sae.reconstruct),
        "zero": Splice(torch.zeros_like),
        "mean": Splice(lambda x: average.expand_as(x)),
    }
    loss, kl = _predictions(model, corpus, site, edits, progress)
    return Evaluation(
        fvu=figures.fvu,
        cosine=figures.cosine,
        l0=figures.l0,
        dead_share=figures.dead_share,
        tokens=figures.tokens,
        loss_clean=loss["clean"],
        loss_spliced=loss["spliced"],
        loss_zero=loss["zero"],
        loss_mean=loss["mean"],
        loss_recovered=_recovered(loss["clean"], loss["spliced"], loss["zero"]),
        loss_recovered_mean=_recovered(loss["clean"], loss["spliced"], loss["mean"]),
        kl_spliced=kl["spliced"],
        kl_zero=kl["zero"],
        kl_recovered=_recovered(0.0, kl["spliced"], kl["zero"]),
    )


def _predictions(
    model: Model,
    corpus: Corpus,
    site: Site,
    edits: Mapping[str, Splice],
    progress: StageProgress,
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure the model's next-token predictions as it is (`clean`) and under each edit.

    Gives the loss of each [nats a token], and the divergence of each edit's predictions from the
    clean ones [nats a token].
    """
    loss = dict.fromkeys(("clean", *edits), 0.0)
    divergence = dict.fromkeys(edits, 0.0)
    predictions = 0
    vocabulary = model.module.config.get_text_config().vocab_size
    seen: set[int] = set()
    for batch in batches(model, corpus):
        group = max(1, LOGITS // (batch.ids.shape[1] * vocabulary))
        for ids, mask in zip(batch.ids.split(group), batch.mask.split(group), strict=True):
            counted = (mask[:, 1:] & mask[:, :-1]).to(model.device)
            target = ids[:, 1:].to(model.device)[counted]
            clean = model.logits(ids, mask)[:, :-1][counted].float().log_softmax(-1)
            loss["clean"] -= float(clean.gather(1, target[:, None]).double().sum())
            for name, edit in edits.items():
                with model.steered(edit, site):
                    changed = model.logits(ids, mask)[:, :-1][counted].float().log_softmax(-1)
                loss[name] -= float(changed.gather(1, target[:, None]).double().sum())
                nats = functional.kl_div(changed, clean, reduction="none", log_target=True)
                divergence[name] += float(nats.double().sum())
            predictions += len(target)
        seen.update(batch.document.tolist())
        progress(len(seen), len(corpus.texts))
    return (
        {name: total / predictions for name, total in loss.items()},
        {name: total / predictions for name, total in divergence.items()},
    )


def _recovered(clean: float, spliced: float, ablated: float) -> float:
    """Say how much of what ablation breaks the SAE brings back; NaN where nothing breaks."""
    return (ablated - spliced) / (ablated - clean) if ablated > clean else math.nan
