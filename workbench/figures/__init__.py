"""Tables to figures, for the app and for notebooks; no Streamlit here.

1. `style` says once what a value's colour is, where it stands on the circle, and how every figure
   looks.
2. `profile`, `contrast`, `ordinal`, `dilemmas`, `adaem`, `effects`, `compare`, `graph`, `plan` and
   `feature` turn frames of the store (`feature_store/queries`) into Plotly figures; `cells` is the
   matrix that can be clicked.
3. `survey` draws what is known before a sweep: layers and doses.
4. `picture` draws the one overview picture with matplotlib, which needs no browser.

Every figure states in its title or axis what its bars and bands are.
"""

from workbench.figures.adaem import rating_matrix, search_history, separation_rows
from workbench.figures.compare import arm_forest
from workbench.figures.contrast import difference_rows, mtmm_matrix
from workbench.figures.dilemmas import agreement_lines, step_lines, strength_rows, win_matrix
from workbench.figures.effects import cell_doses, effect_matrix, feature_doses, leakage
from workbench.figures.feature import activation_histogram, feature_map, logit_histogram
from workbench.figures.graph import value_graph
from workbench.figures.ordinal import change_rows, contrast_rows, theta_rows
from workbench.figures.picture import result_picture
from workbench.figures.plan import plan_rows, prediction_scatter
from workbench.figures.profile import circumplex, profile_rows
from workbench.figures.style import colours
from workbench.figures.survey import dose_curve, survey_layers

__all__ = [
    "activation_histogram",
    "agreement_lines",
    "arm_forest",
    "cell_doses",
    "change_rows",
    "circumplex",
    "colours",
    "contrast_rows",
    "difference_rows",
    "dose_curve",
    "effect_matrix",
    "feature_doses",
    "feature_map",
    "leakage",
    "logit_histogram",
    "mtmm_matrix",
    "plan_rows",
    "prediction_scatter",
    "profile_rows",
    "rating_matrix",
    "result_picture",
    "search_history",
    "separation_rows",
    "step_lines",
    "strength_rows",
    "survey_layers",
    "theta_rows",
    "value_graph",
    "win_matrix",
]
