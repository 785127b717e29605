"""Context-controlled pairs against uncontrolled ones under a planted topic confound: cosine of
probe and difference of means to the truth.

1. The organism writes pools of pairs. *Controlled*: the texts of a pair differ in one behaviour.
   *Confounded*: they share nothing else, and the text that holds the value has the value's topic as
   often as the texts of its world do. Topics cause nothing.
2. The truth of a value is the sum of its six planted directions; the residual is read where they
   lie, at the last token.
3. 100 times as many pairs are drawn from every pool, and both directions are laid beside the truth.
   A resample counts where the controlled pairs come closer in the mean over the ten values; the
   share of single values is printed beside it.
4. Two more pools say what does the harm: *topic alone* is controlled but for the topic,
   *uncontrolled* shares nothing and has no confound.
"""

import numpy as np

from sae_training.engine.opening import open_model
from sae_training.model.last_token import last_residuals
from workbench import organism
from workbench.organism.generate import TOPIC_WITH_VALUE
from workbench.steering import probes

NAME = "conva"
POOL, DRAWN, RESAMPLES = 120, 40, 100
ARMS = {
    "controlled": (True, 0.0),
    "confounded": (False, TOPIC_WITH_VALUE),
    "topic alone": (True, TOPIC_WITH_VALUE),
    "uncontrolled": (False, 0.0),
}
"""Pool -> whether all but the value (and the topic) is shared, and the chance of the confound."""


def residuals(controlled: bool, confound: float) -> np.ndarray:
    """Residuals of a pool's pairs [value, pair, side, d_model], held texts first."""
    truth, model = organism.truth(), open_model(organism.folder())
    pairs = organism.value_pairs(POOL, 0, controlled, confound)
    ids = model.tokenize([text for pair in pairs for text in (pair.held, pair.opposed)])
    found = last_residuals(model, ids, [truth.layer], rows=128)[:, 0].numpy()
    return found.reshape(len(truth.values), POOL, 2, -1)


def directions(pool: np.ndarray, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Unit directions of one value from the drawn pairs of its pool [pair, side, d_model]."""
    held, opposed = pool[drawn, 0], pool[drawn, 1]
    weight, _ = probes.logistic(
        np.concatenate([held, opposed]), np.arange(2 * len(drawn)) < len(drawn)
    )
    found = {"probe": weight, "difference-of-means": (held - opposed).mean(0)}
    return {kind: vector / np.linalg.norm(vector) for kind, vector in found.items()}


def main() -> dict:
    """Reach: the controlled probe is closer to the truth in at least 95 of 100 resamples."""
    truth, rng = organism.truth(), np.random.default_rng(0)
    true = np.stack(
        [
            truth.directions[[f.direction for f in truth.facets if f.value == v]].sum(0)
            for v in truth.values
        ]
    )
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    pools = {arm: residuals(*how) for arm, how in ARMS.items()}
    kinds = ("probe", "difference-of-means")
    cosine = {(arm, kind): np.zeros((RESAMPLES, len(true))) for arm in ARMS for kind in kinds}
    for resample in range(RESAMPLES):
        for value in range(len(true)):
            drawn = rng.choice(POOL, DRAWN, replace=False)
            for arm, pool in pools.items():
                for kind, unit in directions(pool[value], drawn).items():
                    cosine[arm, kind][resample, value] = unit @ true[value]
    for (arm, kind), x in cosine.items():
        print(f"{arm:13} {kind:20} mean cosine {x.mean():.3f}, by value {np.round(x.mean(0), 3)}")
    beats = {
        (arm, kind): cosine["controlled", kind] - cosine[arm, kind]
        for arm in list(ARMS)[1:]
        for kind in kinds
    }
    share = {key: float((gap.mean(1) > 0).mean()) for key, gap in beats.items()}
    value = share["confounded", "probe"]
    return {
        "name": NAME,
        "value": value,
        "reach": 0.95,
        "holds": value >= 0.95,
        "resamples": RESAMPLES,
        "pairs": DRAWN,
        "cosine": {f"{arm} {kind}": float(x.mean()) for (arm, kind), x in cosine.items()},
        "difference_of_means": share["confounded", "difference-of-means"],
        "single_values": float((beats["confounded", "probe"] > 0).mean()),
        "worst_value": float((beats["confounded", "probe"] > 0).mean(0).min()),
        "topic_alone": share["topic alone", "probe"],
        "without_confound": share["uncontrolled", "probe"],
    }
