"""Apply a steering to a study's model: the units, the SAE and the site that a run of it pins.

`strongest_features` lists what an SAE finds in a prompt, or in a span of it.
`scale_of` reads what turns `norm_share` and `feature_max` into residual units from the SAE's own
run: the median residual norm of the harvested tokens and each feature's largest activation. A
steering along a stored direction finds it in the run of probes or labels that it names, at the
SAE's site.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Positions, Run, Span, Steering, Unit, Where
from workbench.measuring.respondents import LocalRespondent
from workbench.steering import directions
from workbench.steering.methods import StrengthScale, build_edit
from workbench.workspace import Workspace, site_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit


def parse_features(texts: Sequence[str]) -> tuple[tuple[int, float], ...]:
    """Read features as a user writes them, as (0-based index, weight) pairs.

    A text without a weight means 1. Raises BadInput for what is not written so.

        parse_features(["12", "40:-1"])     # ((12, 1.0), (40, -1.0))
    """
    pairs = []
    for text in texts:
        index, _, weight = text.partition(":")
        try:
            pairs.append((int(index), float(weight or 1)))
        except ValueError:
            raise BadInput(
                f"A steered feature is written as index or index:weight, got {text!r}."
            ) from None
    return tuple(pairs)


def one_steering(
    features: Sequence[str], method: str, strength: float, unit: Unit, positions: Positions = "all"
) -> Steering:
    """Give the steering that flags describe, or the base model where they describe none.

    `features` are written as `parse_features` reads them; `strength` is in `unit`. Raises BadInput
    where features come without a strength, or a strength without features.
    """
    steering = Steering(
        features=parse_features(features),
        method=method,
        strength=strength,
        unit=unit,
        positions=positions,
    )
    if steering.name == "base" and (features or strength):
        raise BadInput(
            "A steering needs --features and a --strength other than 0, got"
            f" {', '.join(features) or 'no feature'} at {strength}. Give both, or neither."
        )
    return steering


def scale_of(study: Workspace, sae_run: Run) -> StrengthScale:
    """Give the scale of an SAE's site: the residual's median norm, the features' largest
    activations.

    Both are those of the text that was harvested when the SAE's run was made.
    """
    rows = study.store.arrow(
        "SELECT max_activation FROM features WHERE run = ? ORDER BY feature", [sae_run.id]
    )
    largest = torch.tensor(rows["max_activation"].to_numpy(), dtype=torch.float32)
    return StrengthScale(float(sae_run.summary["median_norm"]), largest)


def directions_for(
    study: Workspace, sae_run: Run, steerings: Sequence[Steering]
) -> dict[str, Float[Tensor, " d_model"]]:
    """Load the stored directions that steerings name, at the SAE's site.

    Gives name -> direction of length 1. Raises Incompatible where a direction comes from another
    model than the SAE.
    """
    # Probes read the output of a layer. What enters a layer is the output of the layer below it.
    layer = sae_run.summary["layer"] - (sae_run.summary["point"] == "resid_pre")
    by_name = {}
    parts = [part for steering in steerings for part in (steering, *steering.together)]
    for name in {part.direction for part in parts if part.direction}:
        stored = directions.parse(name)
        if stored.kind in directions.OF_LABELS:
            by_name[name] = _of_labels(study, sae_run, stored)
            continue
        probes_run = study.resolve("probes", stored.run)
        if probes_run.inputs["model"] != sae_run.inputs["model"]:
            raise Incompatible(
                f"{probes_run.id} probed {probes_run.config['model']}, {sae_run.id} reads"
                f" {sae_run.config['model']} or another revision of it. Probe the SAE's model."
            )
        by_name[name] = directions.direction(study, probes_run, stored.value, stored.kind, layer)
    return by_name


def _of_labels(
    study: Workspace, sae_run: Run, name: directions.DirectionName
) -> Float[Tensor, " d_model"]:
    """Load a direction of labelled texts. Raises Incompatible where they were read elsewhere."""
    label_run = study.resolve("labels", name.run)
    read = study.resolve("sae", label_run.inputs["sae"])
    if read.inputs["model"] != sae_run.inputs["model"] or site_of(read) != site_of(sae_run):
        raise Incompatible(
            f"{label_run.id} read {read.config['model']} at layer {read.summary['layer']},"
            f" {sae_run.id} reads {sae_run.config['model']} at layer {sae_run.summary['layer']}."
            " Label with this SAE."
        )
    return directions.direction_of_labels(study, label_run, name.value, name.kind)


def edit_for(study: Workspace, sae_run: Run, steerings: Sequence[Steering]) -> "Edit":
    """Build one edit of the SAE's model; row i is `steerings[i]`."""
    scale = replace(scale_of(study, sae_run), directions=directions_for(study, sae_run, steerings))
    return build_edit(steerings, study.sae(sae_run), scale)


def strongest_features(
    study: Workspace, sae_run: Run, prompts: Sequence[str], where: Where, top: int
) -> list[int]:
    """List the features of largest activation at the tokens that `where` means, over all prompts.

    At most `top` indices [0-based], the strongest first, and only features that are active there.
    Kang et al. (2025) choose their features so, at ` your values` of the prompt without a role.
    Raises BadInput where a prompt lacks the span, and where no feature is active.
    """
    largest = _largest_activations(study, sae_run, prompts, where)
    order = torch.argsort(largest, descending=True, stable=True)[:top]
    strongest = [int(index) for index in order if largest[index] > 0]
    if not strongest:
        raise BadInput(
            "No feature is active at the span, so there is none to steer. Name features, or another"
            " span."
        )
    return strongest


def _largest_activations(
    study: Workspace, sae_run: Run, prompts: Sequence[str], where: Where
) -> Float[Tensor, " feat"]:
    """Give each feature's largest activation at the tokens that `where` means [activation units].

    One prompt passes through the model at a time, so that no padding touches the residual.
    """
    from sae_training.model import spans
    from sae_training.model.edits import prompt_frame

    model, sae = study.model_of(sae_run), study.sae(sae_run)
    spans_wanted = {where: range(len(prompts))} if isinstance(where, Span) else {}
    marks = spans.find(model, prompts, spans_wanted)
    largest = torch.zeros(sae.n_features)
    for row, ids in enumerate(model.tokenize(prompts, prompt=True)):
        tokens = torch.tensor([ids])
        mask = torch.ones_like(tokens, dtype=torch.bool)
        frame = prompt_frame(mask)._replace(spans=spans.padded(marks, [row], len(ids)))
        chosen = frame.where((where,))[0]
        hidden = model.residuals(tokens, mask, site_of(sae_run))[0]
        active = sae.encode(hidden[chosen.to(hidden.device)].to(sae.W_dec))
        largest = torch.maximum(largest, active.amax(0).float().cpu())
    return largest


def respondent(
    study: Workspace,
    sae_run: Run,
    steering: Steering,
    kind: type[LocalRespondent] = LocalRespondent,
) -> LocalRespondent:
    """Give the SAE's model under a steering, as a respondent that answers an instrument.

    Its answers are kept in the study's folder, under the SAE's run and the steering's key.
    """
    model = study.model_of(sae_run)
    if steering.name == "base":
        return kind(model, study.folder)
    edit = edit_for(study, sae_run, [steering])
    return kind(
        model,
        study.folder,
        f"{sae_run.id}: {steering.key}",
        edit,
        site_of(sae_run),
    )


@contextlib.contextmanager
def steer(study: Workspace, sae_run: Run, steering: Steering) -> Iterator["Model"]:
    """Lend the study's model under a steering.

    After the block the model is as it was, to the bit.

        with steer(study, sae_run, Steering(features=((12, 1.0),), strength=0.5)) as model:
            model.generate(["What matters to you?"])
    """
    model = study.model_of(sae_run)
    if steering.name == "base":
        yield model
        return
    with model.steered(edit_for(study, sae_run, [steering]), site_of(sae_run)):
        yield model
