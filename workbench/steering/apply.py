"""Apply a steering to a study's model: the units, the SAE and the site that a run of it pins.

`strongest_features` lists what an SAE finds in a prompt, or in a span of it.
`scale_of` reads what turns `norm_share` and `feature_max` into residual units from the SAE's own
run: the median residual norm of the harvested tokens and each feature's largest activation. A
steering along a stored direction finds it in the run of probes that it names, at the SAE's site.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Positions, Run, Span, Steering, Unit, Where
from workbench.measuring.respondents import LocalRespondent
from workbench.steering import directions
from workbench.steering.methods import Scale, build_edit
from workbench.workspace import Workspace, site_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit


def parse_features(told: Sequence[str]) -> tuple[tuple[int, float], ...]:
    """`["12", "40:-1"]` as (index, weight) pairs."""
    pairs = []
    for text in told:
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
    """The steering that flags describe, the base where they name none.

    Raises BadInput where half of it is missing.
    """
    found = Steering(
        features=parse_features(features),
        method=method,
        strength=strength,
        unit=unit,
        positions=positions,
    )
    if found.name == "base" and (features or strength):
        raise BadInput(
            "A steering needs --features and a --strength other than 0, got"
            f" {', '.join(features) or 'no feature'} at {strength}. Give both, or neither."
        )
    return found


def scale_of(study: Workspace, sae_run: Run) -> Scale:
    """The residual's median norm and the features' largest activations, as harvested."""
    rows = study.store.arrow(
        "SELECT max_activation FROM features WHERE run = ? ORDER BY feature", [sae_run.id]
    )
    largest = torch.tensor(rows["max_activation"].to_numpy(), dtype=torch.float32)
    return Scale(float(sae_run.summary["median_norm"]), largest)


def directions_for(
    study: Workspace, sae_run: Run, steerings: Sequence[Steering]
) -> dict[str, torch.Tensor]:
    """The stored directions that the steerings name, each [d_model], at the SAE's site."""
    layer = sae_run.summary["layer"] - (sae_run.summary["point"] == "resid_pre")
    found = {}
    for name in {one.direction for one in steerings if one.direction}:
        told = directions.parse(name)
        run = study.resolve("probes", told.run)
        if run.inputs["model"] != sae_run.inputs["model"]:
            raise Incompatible(
                f"{run.id} probed {run.config['model']}, {sae_run.id} reads"
                f" {sae_run.config['model']} or another revision of it. Probe the SAE's model."
            )
        found[name] = directions.direction(study, run, told.value, told.kind, layer)
    return found


def edit_for(study: Workspace, sae_run: Run, steerings: Sequence[Steering]) -> "Edit":
    """One edit with a row a steering."""
    scale = replace(scale_of(study, sae_run), directions=directions_for(study, sae_run, steerings))
    return build_edit(steerings, study.sae(sae_run), scale)


def strongest_features(
    study: Workspace, sae_run: Run, prompts: Sequence[str], where: Where, top: int
) -> list[int]:
    """The features of largest activation at the tokens that `where` means, over all prompts; at
    most `top`, only live ones.

    Kang et al. (2025) choose so, at ` your values` of the role-free prompt. Raises BadInput where a
    prompt lacks the span.
    """
    from sae_training.model import spans
    from sae_training.model.edits import prompt_frame

    model, sae = study.model_of(sae_run), study.sae(sae_run)
    marks = spans.find(
        model, prompts, {where: range(len(prompts))} if isinstance(where, Span) else {}
    )
    largest = torch.zeros(sae.n_features)
    for row, ids in enumerate(model.tokenize(prompts, prompt=True)):
        tokens = torch.tensor([ids])
        mask = torch.ones_like(tokens, dtype=torch.bool)
        chosen = (
            prompt_frame(mask)
            ._replace(spans=spans.padded(marks, [row], len(ids)))
            .where((where,))[0]
        )
        hidden = model.residuals(tokens, mask, site_of(sae_run))[0]
        active = sae.encode(hidden[chosen.to(hidden.device)].to(sae.W_dec))
        largest = torch.maximum(largest, active.amax(0).float().cpu())
    order = torch.argsort(largest, descending=True, stable=True)[:top]
    found = [int(index) for index in order if largest[index] > 0]
    if not found:
        raise BadInput(
            "No feature is active at the span, so there is none to steer. Name features, or another"
            " span."
        )
    return found


def respondent(
    study: Workspace,
    sae_run: Run,
    steering: Steering,
    kind: type[LocalRespondent] = LocalRespondent,
) -> LocalRespondent:
    """The SAE's model under a steering, as one who answers an instrument; answers are kept in
    the study.
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
    """The study's model, steered; as it was afterwards, to the bit."""
    model = study.model_of(sae_run)
    if steering.name == "base":
        yield model
        return
    with model.steered(edit_for(study, sae_run, [steering]), site_of(sae_run)):
        yield model
