"""Tables to figures, for the app and for notebooks; no Streamlit here.

1. `style` says once what a value's colour is, where it stands on the circle, and how every figure looks.
2. `profile`, `contrast`, `effects`, `compare`, `graph`, `plan` and `feature` turn frames of the store (`feature_store/queries`) into Plotly figures.
3. `picture` draws the one overview picture with matplotlib, which needs no browser.

Every figure states in its title or axis what its bars and bands are.
"""

from workbench.figures.compare import arm_forest
from workbench.figures.contrast import difference_rows, mtmm_matrix
from workbench.figures.effects import cell_doses, effect_matrix, feature_doses, leakage
from workbench.figures.feature import activation_histogram, feature_map
from workbench.figures.graph import value_graph
from workbench.figures.picture import result_picture
from workbench.figures.plan import plan_rows, prediction_scatter
from workbench.figures.profile import circumplex, profile_rows
from workbench.figures.style import colours

__all__ = [
    "activation_histogram",
    "arm_forest",
    "cell_doses",
    "circumplex",
    "colours",
    "difference_rows",
    "effect_matrix",
    "feature_doses",
    "feature_map",
    "leakage",
    "mtmm_matrix",
    "plan_rows",
    "prediction_scatter",
    "profile_rows",
    "result_picture",
    "value_graph",
]
