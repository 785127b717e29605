"""How good an SAE is, on text it was not trained on.

1. `reconstruction`: how much of the residual's variance is missed, how many features speak, how
   many never do.
2. `evaluate` adds what the language model makes of it: its next-token loss and its predictions when
   the residual at the site is replaced by the SAE's reconstruction, beside the clean model and
   beside removing the residual altogether (zero, or the mean residual). First tokens of a row are
   left as they are, as everywhere.
3. The clean pass gives the residuals at the site and the clean predictions. The other passes start
   from replaced residuals at the site: the layers below are not run again. Of a model that cannot
   be resumed there, whole passes are steered.
4. Where a few tokens, many times as long as the others, hold most of the variance, FVU says how
   these few are rebuilt. Then it is given without them as well (`fvu_usual`).
5. recovered = (ablated - spliced) / (ablated - clean): 1 is as good as the clean model, 0 as bad as
   ablation. For KL divergence the clean model is at 0.

Left out: SAEBench's tasks, which need environments of their own.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from feature_store.errors import BadInput
from feature_store.progress import StageProgress, silent_stage, step
from feature_store.records import Site, Where
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.stream import picked, places
from sae_training.dictionary.texts import Corpus, TextBatch, batches
from sae_training.engine.model import Model
from sae_training.engine.resume import logits_from, resumable
from sae_training.model import sites
from sae_training.model.edits import prompt_frame

LOGITS = 2**26
"""Logits held at once [numbers]."""
CHUNK = 4096
"""Tokens encoded at once."""
LONGEST = 0.01
"""Share of the tokens, the longest ones, that may decide an FVU alone [0 to 1]."""
MOST = 0.5
"""Share of the variance from which on they do [0 to 1]."""
READS = 4
"""What reading a text costs, in passes with the mean residual: a whole pass, two from the site."""


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
    fvu_usual: float | None
    """`fvu` of all but the longest hundredth of the tokens, where these hold most of the
    variance; else None."""


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
    fvu_usual: float | None
    """See `Reconstruction`."""


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
    sums = _Sums(sae)
    for piece in residuals:
        sums.add(piece)
    return sums.figures()


class _Sums:
    """What is summed up over tokens to say how well an SAE rebuilds them."""

    def __init__(self, sae: SAE) -> None:
        """Begin with none."""
        self.sae = sae
        self.tokens = 0
        self.total = torch.zeros(sae.d_model, dtype=torch.float64)
        """Sum of the residuals, as the SAE reads them."""
        self._error = self._cosine = self._l0 = self._square = 0.0
        self._alive = torch.zeros(sae.n_features, dtype=torch.bool, device=sae.device)
        self._lengths = _ByLength(sae.d_model)

    def add(self, piece: Float[Tensor, "tok d_model"]) -> None:
        """Take in the residuals of some tokens."""
        for x in piece.to(self.sae.device).split(CHUNK):
            x = self.sae.centre(x)
            features = self.sae.encode(x)
            out = self.sae.decode(features, x)
            self.tokens += len(x)
            error = (x - out).double().square().sum(1)
            self._error += float(error.sum())
            self._lengths.add(x, error)
            self._cosine += float(functional.cosine_similarity(x, out, dim=1).double().sum())
            self._l0 += float((features > 0).sum())
            self._alive |= (features > 0).any(0)
            self.total += x.double().sum(0).cpu()
            self._square += float(x.double().square().sum())

    def figures(self) -> Reconstruction:
        """Say how well the SAE rebuilds them. Raises BadInput where there is no token."""
        n = self.tokens
        if n == 0:
            raise BadInput("There is no held-out token to evaluate on. Give more or longer texts.")
        variance = self._square - float(self.total.square().sum()) / n
        return Reconstruction(
            fvu=self._error / max(variance, 1e-12),
            cosine=self._cosine / n,
            l0=self._l0 / n,
            dead_share=1 - float(self._alive.float().mean()),
            tokens=n,
            fvu_usual=self._lengths.usual(variance),
        )


class _ByLength:
    """The sums behind FVU, kept apart by how long the residuals are.

    A token's bin is its length in eighths of an octave, so that no token has to be kept.
    """

    def __init__(self, d_model: int) -> None:
        """Begin with none."""
        self._bins: dict[int, tuple[int, float, float, Tensor]] = {}
        """Bin -> its tokens, their squared error, their squared length, and their sum."""
        self._none = (0, 0.0, 0.0, torch.zeros(d_model, dtype=torch.float64))

    def add(self, x: Float[Tensor, "tok d_model"], error: Float[Tensor, " tok"]) -> None:
        """Take in some tokens, with their squared errors."""
        square = x.double().square().sum(1)
        place = (square.clamp(min=1e-30).log2() * 4).floor().long()
        for bin in place.unique().tolist():
            here = place == bin
            n, errors, squares, total = self._bins.get(bin, self._none)
            self._bins[bin] = (
                n + int(here.sum()),
                errors + float(error[here].sum()),
                squares + float(square[here].sum()),
                total + x[here].double().sum(0).cpu(),
            )

    def usual(self, variance: float) -> float | None:
        """Give the FVU without the longest tokens, where they hold most of the variance.

        They are the longest bins that hold `LONGEST` of the tokens at most; None where they hold
        less than `MOST` of the variance, and where there are none but these.
        """
        left = sum(n for n, *_ in self._bins.values())
        most = LONGEST * left
        n, error, square, total = self._none
        for bin in sorted(self._bins):
            here, errors, squares, sums = self._bins[bin]
            n, error, square, total = n + here, error + errors, square + squares, total + sums
            left -= here
            if left <= most:
                break
        usual = square - float(total.square().sum()) / n
        return error / usual if 0 < usual < (1 - MOST) * variance else None


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
    work = _Evaluating(model, sae, site)
    seen: set[int] = set()
    whole = (READS + 1) * len(corpus.texts)
    progress(0, whole)
    for batch in batches(model, corpus):
        read = READS * len(seen)
        seen.update(batch.document.tolist())
        work.read(batch, step(progress, read, READS * len(seen) - read, whole))
        progress(READS * len(seen), whole)
    figures = work.sums.figures()
    mean = (work.total / work.sums.tokens).float().to(model.device)
    for number, part in enumerate(work.parts, 1):
        work.ablate(part, mean)
        progress(whole - len(corpus.texts) * (len(work.parts) - number) // len(work.parts), whole)
    loss = {name: total / work.predictions for name, total in work.loss.items()}
    kl = {name: total / work.predictions for name, total in work.divergence.items()}
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
        fvu_usual=figures.fvu_usual,
    )


class _Part(NamedTuple):
    """Rows that go through the model together, and what the pass with the mean needs of them."""

    ids: Int[Tensor, "row tok"]
    """Token ids."""
    mask: Bool[Tensor, "row tok"]
    """True where there is a token."""
    first: Float[Tensor, "row d_model"]
    """Clean residual of each row's first token, which stays as it is."""


class _Evaluating:
    """The passes of an evaluation, and their sums."""

    def __init__(self, model: Model, sae: SAE, site: Site) -> None:
        """Begin with nothing read."""
        self.model, self.sae, self.site = model, sae, site
        self.at = sites.boundary(site, model.n_layers)
        self.resumes = resumable(model)
        self.sums = _Sums(sae)
        self.total = torch.zeros(model.d_model, dtype=torch.float64)
        """Sum of the residuals, as the model gives them."""
        self.loss = dict.fromkeys(("clean", "spliced", "zero", "mean"), 0.0)
        self.divergence = dict.fromkeys(("spliced", "zero"), 0.0)
        self.predictions = 0
        self.parts: list[_Part] = []

    def read(self, batch: TextBatch, progress: StageProgress) -> None:
        """Run the clean pass, that with reconstructions and that with zeros over a batch.

        `progress` counts rows of the batch.
        """
        vocabulary = self.model.module.config.get_text_config().vocab_size
        group = max(1, LOGITS // (batch.ids.shape[1] * vocabulary))
        for rows in torch.arange(len(batch.ids)).split(group):
            part = TextBatch(*(tensor[rows] for tensor in batch))
            clean, hidden = self._clean(part)
            at = places(self.model, part, self.sae.reading)
            x = picked(hidden, part, at, self.site)
            self.sums.add(x)
            self.total += x.sum(0).double().cpu()
            counted, target = self._targets(part.ids, part.mask)
            clean = clean[:, :-1][counted].float().log_softmax(-1)
            self.loss["clean"] -= float(clean.gather(1, target).double().sum())
            self.predictions += len(target)
            edits = {"spliced": Splice(self.sae.reconstruct), "zero": Splice(torch.zeros_like)}
            for name, edit in edits.items():
                changed = self._changed(name, part.ids, part.mask, hidden, edit)
                nats = functional.kl_div(changed, clean, reduction="none", log_target=True)
                self.divergence[name] += float(nats.double().sum())
            self.parts.append(_Part(part.ids, part.mask, hidden[:, 0].clone()))
            progress(int(rows[-1]) + 1, len(batch.ids))

    def ablate(self, part: _Part, mean: Float[Tensor, " d_model"]) -> None:
        """Run the pass with the mean residual over some rows."""
        hidden = mean.to(part.first).repeat(*part.ids.shape, 1)
        hidden[:, 0] = part.first
        edit = Splice(lambda x: mean.to(x).expand_as(x))
        self._changed("mean", part.ids, part.mask, hidden, edit)

    def _clean(
        self, batch: TextBatch
    ) -> tuple[Float[Tensor, "row tok vocab"], Float[Tensor, "row tok d_model"]]:
        """Run the model as it is: its logits, and the residuals at the site."""
        seen: list[Tensor] = []

        def keep(hidden: Tensor) -> Tensor:
            """Keep the residual at the site."""
            seen.append(hidden)
            return hidden

        with self.model.lock, self.model.hooked(self.at, keep):
            logits = self.model.logits(batch.ids, batch.mask)
        return logits, seen[0]

    def _changed(
        self, name: str, ids: Tensor, mask: Tensor, hidden: Tensor, edit: Splice
    ) -> Float[Tensor, "prediction vocab"]:
        """Predict with residuals replaced, add up the loss, and give the log-probabilities."""
        if self.resumes:
            where = prompt_frame(mask).where(edit.positions).to(hidden.device)
            logits = logits_from(self.model, ids, mask, edit(hidden, where), self.at)
        else:
            with self.model.steered(edit, self.site):
                logits = self.model.logits(ids, mask)
        counted, target = self._targets(ids, mask)
        changed = logits[:, :-1][counted].float().log_softmax(-1)
        self.loss[name] -= float(changed.gather(1, target).double().sum())
        return changed

    def _targets(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Say which predictions count, and which token came [tok 1]."""
        counted = (mask[:, 1:] & mask[:, :-1]).to(self.model.device)
        return counted, ids[:, 1:].to(self.model.device)[counted][:, None]


def _recovered(clean: float, spliced: float, ablated: float) -> float:
    """Say how much of what ablation breaks the SAE brings back; NaN where nothing breaks."""
    return (ablated - spliced) / (ablated - clean) if ablated > clean else math.nan
