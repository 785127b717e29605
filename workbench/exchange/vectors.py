"""The one vector that a steering adds, for tools that know no features.

1. The steering is that of the settings: features with weights, the best labelled feature of a
   value, or a stored direction. Several features are one summed vector, each as if steered alone.
2. Its strength becomes residual units by the SAE's own run (`StrengthScale`), so the vector is
   what `add` adds at every steered token: whoever reads it adds it once, at scale 1.
3. `described` writes beside it all that it needs to be used, as texts.
4. `output_layer` says after which layer it is added, as tools that hook layers count: the site
   `resid_pre` of layer 5 is the output of layer 4.

Left out: methods that read the residual (clamp, ablate): they are no vector.
"""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from feature_store import queries
from feature_store.errors import BadInput, NotFound
from feature_store.records import Run, Site, Steering
from sae_training.model import sites
from workbench import results
from workbench.exchange import ExportSettings
from workbench.steering.apply import directions_for, parse_features, scale_of
from workbench.steering.methods import dose_vector
from workbench.workspace import Workspace, site_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model


@dataclass(frozen=True, kw_only=True)
class SteeringVector:
    """What a steering adds to the residual, and where."""

    vector: Float[Tensor, " d_model"]
    """Added to every steered token [residual units]."""
    steering: Steering
    """The steering that it is."""
    sae_run: Run
    """Run of the SAE whose features and site it has."""
    site: Site
    """Where it is added: model, revision, layer and point."""
    model: "Model"
    """The live model of the SAE's run."""

    @property
    def output_layer(self) -> int:
        """0-based layer whose output it is added to; -1: the embedding's."""
        return self.site.layer - (self.site.point == "resid_pre")


def label_run_of(study: Workspace, sae_run: Run, name: str) -> Run | None:
    """Give the run of labels of that name, or the newest of the SAE; None where there is none.

    Raises BadInput where the named run labels another SAE.
    """
    if not name:
        newest = queries.label_runs(study.store, sae_run.id).run
        return study.resolve("labels", newest.iloc[0]) if len(newest) else None
    label_run = study.resolve("labels", name)
    if label_run.inputs["sae"] != sae_run.id:
        raise BadInput(
            f"{label_run.id} labels the features of {label_run.inputs['sae']}, not those of"
            f" {sae_run.id}. Give --sae {label_run.inputs['sae']}."
        )
    return label_run


def steering_vector(study: Workspace, settings: ExportSettings) -> SteeringVector:
    """Make the vector that the settings describe.

    Raises BadInput where they describe none, or several.

        steering_vector(study, ExportSettings(features=("12", "40:-1"), strength=0.3)).vector
    """
    sae_run = study.resolve("sae", settings.sae)
    steering = _steering(study, sae_run, settings)
    directions = directions_for(study, sae_run, [steering])
    scale = replace(scale_of(study, sae_run), directions=directions)
    vector = steering.strength * dose_vector(steering, study.sae(sae_run), scale)
    place = site_of(sae_run)
    revision = sae_run.inputs["model"].partition(" on ")[0].partition(" ")[0]
    return SteeringVector(
        vector=vector.detach().float().cpu(),
        steering=steering,
        sae_run=sae_run,
        site=replace(place, model=sae_run.config["model"], revision=revision),
        model=study.model_of(sae_run),
    )


def described(made: SteeringVector) -> dict[str, str]:
    """Say of a vector what decides it, as texts by name."""
    steering = made.steering
    return {
        "format": "steering vector 1",
        "unit": "residual units",
        "method": steering.method,
        "site": sites.saelens_name(made.site),
        "layer": str(made.site.layer),
        "point": made.site.point,
        "model": made.site.model,
        "revision": made.site.revision,
        "strength": repr(steering.strength),
        "strength_unit": steering.unit,
        "features": json.dumps([list(pair) for pair in steering.features]),
        "direction": steering.direction,
        "sae": made.sae_run.id,
    }


def _steering(study: Workspace, sae_run: Run, settings: ExportSettings) -> Steering:
    """Give the steering of the settings."""
    sources = {
        "--features": settings.features,
        "--value": settings.value,
        "--direction": settings.direction,
    }
    given = [flag for flag, content in sources.items() if content]
    if len(given) != 1 or not settings.strength:
        raise BadInput(
            "A steering vector needs one of --features, --value and --direction, and a --strength"
            f" other than 0; got {', '.join(given) or 'none'} at {settings.strength:g}."
        )
    if settings.value:
        features = _best_feature(study, sae_run, settings)
    else:
        features = parse_features(settings.features)
    return Steering(
        features=features,
        direction=settings.direction,
        strength=settings.strength,
        unit=settings.unit,
        combine="sum" if len(features) > 1 else "direction",
    )


def _best_feature(
    study: Workspace, sae_run: Run, settings: ExportSettings
) -> tuple[tuple[int, float], ...]:
    """Give the feature of a value that is best to steer, turned so that the value rises."""
    label_run = label_run_of(study, sae_run, settings.labels)
    if label_run is None:
        raise NotFound(f"{sae_run.id} has no labels. Run `workbench label` first.")
    best = results.labels(study, settings.value, label_run.id).best
    return best.steering(settings.strength).features
