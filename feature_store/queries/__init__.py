"""Questions to the store, one function each; each answers with a frame.

1. Runs are chosen first (`candidates`); everything else is asked of one run.
2. Long tables are cut into pages by the database (`LIMIT`, `OFFSET`), so that a page costs the same
   in any study.
3. Each function says how the answer is sorted. Column names and units are those of `schema/`.

One module an idea, with the same file name as in `schema/` and `records/`.
`python -m benchmarks store` measures those about an SAE on 65,536 features. Left out: what only a
live model knows.
"""

from feature_store.queries.adaem import (
    OpinionFilter,
    adaem_members,
    adaem_opinions,
    adaem_pulls,
    adaem_questions,
    adaem_ratings,
    adaem_separation,
)
from feature_store.queries.asking import (
    item_responses,
    profile,
    prompts,
    quality,
    responses,
)
from feature_store.queries.causes import (
    edges,
    joint_features,
    joint_units,
    plan_effects,
    prediction_scores,
    predictions,
    true_edges,
)
from feature_store.queries.comparing import (
    circle_fits,
    contrasts,
    mtmm,
    subject_names,
    subjects,
    validity,
)
from feature_store.queries.deciding import (
    actions,
    scenarios,
)
from feature_store.queries.dictionary import (
    MAP_POINTS,
    FeatureFilter,
    FeatureOrder,
    FeaturesPage,
    LabelAgreement,
    Sort,
    accepted_labels,
    competing_labels,
    contexts,
    feature,
    feature_map,
    features,
    histogram,
    label_agreement,
    label_runs,
    labelled_by_value,
    labelled_features,
    metrics,
    spread,
)
from feature_store.queries.effects import (
    cell_doses,
    cell_ratings,
    dose_curves,
    feature_doses,
    leakage,
    matched,
    matrix,
)
from feature_store.queries.methods import (
    arm_means,
    arm_ratings,
    arm_scores,
    arm_texts,
    arms,
)
from feature_store.queries.moral_dilemmas import (
    dilemmas,
    item_answers,
    step_agreement,
    step_preferences,
    transitivity,
    value_strengths,
    win_rates,
)
from feature_store.queries.ordinal import (
    answerers,
    ordinal_circle,
    ordinal_contrasts,
    ordinal_parameters,
    ordinal_thetas,
)
from feature_store.queries.run import (
    candidates,
    profile_candidates,
    runs,
)
from feature_store.queries.survey import (
    survey_reading,
    survey_writing,
)
from feature_store.queries.transfer import (
    best_evidence,
    transfer_arms,
    transfer_ears,
    transfer_effects,
    transfer_ranks,
    verdicts,
)

__all__ = [
    "MAP_POINTS",
    "FeatureFilter",
    "FeatureOrder",
    "FeaturesPage",
    "LabelAgreement",
    "OpinionFilter",
    "Sort",
    "accepted_labels",
    "actions",
    "adaem_members",
    "adaem_opinions",
    "adaem_pulls",
    "adaem_questions",
    "adaem_ratings",
    "adaem_separation",
    "answerers",
    "arm_means",
    "arm_ratings",
    "arm_scores",
    "arm_texts",
    "arms",
    "best_evidence",
    "candidates",
    "cell_doses",
    "cell_ratings",
    "circle_fits",
    "competing_labels",
    "contexts",
    "contrasts",
    "dilemmas",
    "dose_curves",
    "edges",
    "feature",
    "feature_doses",
    "feature_map",
    "features",
    "histogram",
    "item_answers",
    "item_responses",
    "joint_features",
    "joint_units",
    "label_agreement",
    "label_runs",
    "labelled_by_value",
    "labelled_features",
    "leakage",
    "matched",
    "matrix",
    "metrics",
    "mtmm",
    "ordinal_circle",
    "ordinal_contrasts",
    "ordinal_parameters",
    "ordinal_thetas",
    "plan_effects",
    "prediction_scores",
    "predictions",
    "profile",
    "profile_candidates",
    "prompts",
    "quality",
    "responses",
    "runs",
    "scenarios",
    "spread",
    "step_agreement",
    "step_preferences",
    "subject_names",
    "subjects",
    "survey_reading",
    "survey_writing",
    "transfer_arms",
    "transfer_ears",
    "transfer_effects",
    "transfer_ranks",
    "transitivity",
    "true_edges",
    "validity",
    "value_strengths",
    "verdicts",
    "win_rates",
]
