"""The sae-lens engine: every architecture that sae-lens trains on a residual stream.

1. Its `SAETrainer` takes the steps (loss, clipping, Adam, coefficient warm-up); the loop, the data,
   the evaluation and the checkpoints are ours, because its runner ignores its seed, resumes
   inexactly and cannot run outside the main thread.
2. The learning rate of every step is set here, so both engines follow the same schedule.
3. TopK kinds start from unit decoder rows like the fused engine; the others from sae-lens' 0.1.
4. What is saved for inference is made by sae-lens' own `save_inference_model` and read back.
   BatchTopK's threshold is a running mean that starts at 0; it is corrected for that first.

Left out: temporal SAEs, transcoders, matching pursuit and AbsTopK, which are no linear
read-and-write of one residual.
"""

import tempfile
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.registry import register
from sae_training.dictionary.loaders import load_sae
from sae_training.dictionary.sae import SAE
from sae_training.training.config import TrainingSettings
from sae_training.training.engines import refuse_architecture
from sae_training.training.schedule import dead_after, learning_rate, steps

THRESHOLD_RATE = 0.1
"""Weight of the newest batch in BatchTopK's running threshold."""
NESTED = 4
"""Of Matryoshka: nested dictionaries, each twice as wide as the one before."""


@register("engines", "sae-lens")
class SaeLens:
    """sae-lens' SAETrainer: topk, batchtopk, matryoshka_batchtopk, jumprelu, gated, standard."""

    architectures = ("batchtopk", "gated", "jumprelu", "matryoshka_batchtopk", "standard", "topk")

    def __init__(self, settings: TrainingSettings, d_model: int, device: torch.device) -> None:
        """Set up sae-lens' trainer. Raises BadInput for an architecture that it does not train."""
        from sae_lens import SAE as _  # noqa: F401 - registers the architectures
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.registry import get_sae_training_class
        from sae_lens.training.sae_trainer import SAETrainer

        refuse_architecture(settings)
        kind, config_kind = get_sae_training_class(settings.architecture)
        self.settings = settings
        self.device = device
        with torch.random.fork_rng(devices=[]):
            # sae-lens draws its weights from the global generator.
            torch.manual_seed(settings.seed)
            self.sae = kind(config_kind(**_fields(settings, d_model, device)))
        self.trainer = SAETrainer(
            SAETrainerConfig(
                total_training_samples=steps(settings) * settings.batch_tokens,
                train_batch_size_samples=settings.batch_tokens,
                lr=settings.lr,
                lr_end=settings.lr_end,
                device=str(device),
                dead_feature_window=dead_after(settings),
                logger=LoggingConfig(log_to_wandb=False),
            ),
            self.sae,
            iter(()),
        )

    def begin(self, x: Float[Tensor, "tok d_model"]) -> None:
        """Set the decoder bias to the mean of the first tokens."""
        self.sae.b_dec.data.copy_(x.mean(0))

    def step(self, x: Float[Tensor, "tok d_model"]) -> dict[str, float]:
        """Take one step of sae-lens' trainer, and report loss, l0 and dead_share."""
        self.trainer.optimizer.param_groups[0]["lr"] = learning_rate(
            self.settings, self.trainer.n_training_steps
        )
        output = self.trainer.step(x)
        self.trainer.n_training_steps += 1
        with torch.no_grad():
            l0 = float((output.feature_acts != 0).sum()) / len(x)
            return {
                "loss": float(output.loss),
                "l0": l0,
                "dead_share": float(self.trainer.dead_neurons.float().mean()),
            }

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on: weights, Adam's moments, counts, coefficients."""
        trainer = self.trainer
        state: dict[str, Any] = {
            f"sae.{name}": value for name, value in self.sae.state_dict().items()
        }
        for number, moments in trainer.optimizer.state_dict()["state"].items():
            state |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        state |= {
            "silent": trainer.n_forward_passes_since_fired,
            "frequency": trainer.act_freq_scores,
            "frequency_tokens": trainer.n_frac_active_samples,
            "step": trainer.n_training_steps,
            "samples": trainer.n_training_samples,
        }
        return state | {
            f"coefficient.{name}": scheduler.state_dict()
            for name, scheduler in trainer.coefficient_schedulers.items()
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        trainer = self.trainer
        self.sae.load_state_dict(
            {name[4:]: value for name, value in state.items() if name.startswith("sae.")}
        )
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, number, key = name.split(".")
                moments.setdefault(int(number), {})[key] = value.clone()
        trainer.optimizer.load_state_dict(trainer.optimizer.state_dict() | {"state": moments})
        trainer.n_forward_passes_since_fired = state["silent"].to(self.device)
        trainer.act_freq_scores = state["frequency"].to(self.device)
        trainer.n_frac_active_samples = state["frequency_tokens"]
        trainer.n_training_steps = state["step"]
        trainer.n_training_samples = state["samples"]
        for name, scheduler in trainer.coefficient_schedulers.items():
            scheduler.load_state_dict(state[f"coefficient.{name}"])

    def export(self) -> SAE:
        """Make the SAE as sae-lens saves it for inference, and read it back."""
        raw = getattr(self.sae, "topk_threshold", None)
        if raw is not None:
            self.sae.topk_threshold = raw / max(
                1 - (1 - THRESHOLD_RATE) ** self.trainer.n_training_steps, 1e-8
            )
        try:
            with tempfile.TemporaryDirectory() as folder:
                weights = {name: value.clone() for name, value in self.sae.state_dict().items()}
                self.sae.save_inference_model(folder)
                exported = load_sae(folder).to(self.device)
                self.sae.load_state_dict(weights)  # saving folds the decoder norms in place
        finally:
            if raw is not None:
                self.sae.topk_threshold = raw
        return replace(exported, metadata={})


def _fields(settings: TrainingSettings, d_model: int, device: torch.device) -> dict[str, Any]:
    """Say what our settings are called in the configuration of an architecture of sae-lens."""
    fields: dict[str, Any] = {
        "d_in": d_model,
        "d_sae": settings.n_features,
        "device": str(device),
    }
    if "topk" in settings.architecture:
        fields |= {"k": settings.k, "aux_loss_coefficient": settings.aux, "decoder_init_norm": 1.0}
    if "batchtopk" in settings.architecture:
        fields |= {"topk_threshold_lr": THRESHOLD_RATE}
    if settings.architecture.startswith("matryoshka"):
        widths = [settings.n_features >> halvings for halvings in reversed(range(NESTED))]
        fields |= {"matryoshka_widths": widths}
    if settings.architecture == "jumprelu":
        fields |= {"l0_coefficient": settings.coefficient, "l0_warm_up_steps": settings.warmup}
    if settings.architecture in ("standard", "gated"):
        fields |= {"l1_coefficient": settings.coefficient, "l1_warm_up_steps": settings.warmup}
    return fields
