-- Causes: the causal graph among values, and what is predicted and planned with it.

CREATE TABLE edges (  -- Direct effects between values, every ordered pair.
  run       VARCHAR,  -- run of kind graph
  source    VARCHAR,  -- cause
  target    VARCHAR,  -- effect
  weight    DOUBLE,   -- direct effect [rating points per rating point]
  low       DOUBLE, high DOUBLE,  -- @interval over contexts and a value's features or groups
  z         DOUBLE,   -- weight over its bootstrap SD
  q         DOUBLE,   -- p after Benjamini-Hochberg over ordered pairs [0 to 1]
  frequency DOUBLE,   -- share of bootstrap replicates that contain the edge [0 to 1]
  present   BOOLEAN   -- whether the edge belongs to the graph
);

CREATE TABLE true_edges (  -- The planted graph, where the model has one.
  run    VARCHAR,  -- run of kind graph
  source VARCHAR,  -- cause
  target VARCHAR,  -- effect
  weight DOUBLE    -- planted direct effect [rating points per rating point]
);

CREATE TABLE joint_features (
  -- What each joint steering is made of: features that are steered together, each at its own
  -- strength.
  run          VARCHAR,  -- run of kind prediction or plan
  intervention INTEGER,  -- number of the intervention
  feature      INTEGER,  -- 0-based feature index
  value        VARCHAR,  -- value the feature is labelled with; empty for controls
  polarity     INTEGER,  -- polarity of the label; +1 for controls
  weight       DOUBLE    -- signed dose of the feature; the steering adds them at strength 1
                         -- [in the unit of the intervention]
);

CREATE TABLE joint_units (
  -- What each joint steering is made of where the sweep steered groups or directions: those that
  -- are steered together, each at its own strength.
  run          VARCHAR,  -- run of kind prediction or plan
  intervention INTEGER,  -- number of the intervention
  kind         VARCHAR,  -- group | direction | random-direction
  name         VARCHAR,  -- value/part, as power/pole, or power/pole/rejected of what texts share that
                         -- reject it; the seed of a random direction
  value        VARCHAR,  -- value that it is of; empty for controls
  polarity     INTEGER,  -- +1, or -1 where it is of texts that reject the value; +1 for controls
  weight       DOUBLE    -- signed dose of the group or direction; the steering adds them at
                         -- strength 1 [in the unit of the intervention]
);

CREATE TABLE predictions (
  -- Held-out joint steerings: what two models said, and what was measured.
  run            VARCHAR,  -- run of kind prediction
  intervention   INTEGER,  -- number of the joint steering
  model          VARCHAR,  -- linear: single changes add up | graph: own changes, carried on by the
                           -- causal graph
  value          VARCHAR,  -- value that was measured
  predicted      DOUBLE,   -- expected change [rating points]
  predicted_low  DOUBLE, predicted_high DOUBLE,  -- @interval from contexts and model error
  measured       DOUBLE,   -- measured mean change, paired by context [rating points]
  measured_low   DOUBLE, measured_high DOUBLE,  -- @interval over contexts
  sd             DOUBLE,   -- unsteered SD of the value over contexts, to divide by for effects in
                           -- SD [rating points]
  n              INTEGER,  -- contexts [clusters]
  covered        BOOLEAN   -- whether the measured change lies in an interval whose model error
                           -- comes from the other steerings
);

CREATE TABLE prediction_scores (
  -- How well joint steerings that no fit has seen were predicted, value by value and all together.
  run            VARCHAR,  -- run of kind prediction
  model          VARCHAR,  -- linear | graph
  value          VARCHAR,  -- value; all = pooled over values
  r2             DOUBLE,   -- share of the variance over steerings that was predicted [at most 1]
  low            DOUBLE, high DOUBLE,  -- @interval over steerings
  chance         DOUBLE,   -- 97.5 % quantile of R2 with predictions dealt to the wrong steerings
  mae            DOUBLE,   -- mean absolute error [rating points]
  error          DOUBLE,   -- root mean square error [rating points]
  coverage       DOUBLE,   -- share of measured changes inside their 95 % prediction interval
                           -- [0 to 1]
  fresh_coverage DOUBLE,   -- the same, predicted from half of the contexts and measured in the
                           -- other half [0 to 1]
  n              INTEGER   -- joint steerings [steerings]
);

CREATE TABLE plan_effects (
  -- A wanted profile: what was asked, what was expected, and what was measured in contexts the plan
  -- has not seen.
  run            VARCHAR,  -- run of kind plan
  value          VARCHAR,  -- value
  wanted         DOUBLE,   -- wanted change [rating points]; NaN where only bounds, or nothing, was
                           -- asked
  wanted_low     DOUBLE,   -- smallest change that was asked for [rating points]; -infinity: any
  wanted_high    DOUBLE,   -- largest change that was asked for [rating points]; infinity: any
  predicted      DOUBLE,   -- expected change [rating points]
  predicted_low  DOUBLE, predicted_high DOUBLE,  -- @interval from contexts and model error
  measured       DOUBLE,   -- measured mean change in the held-out contexts [rating points]
  measured_low   DOUBLE, measured_high DOUBLE,  -- @interval over contexts
  control        DOUBLE,   -- change under random features at the same doses [rating points]; NaN
                           -- without such features
  control_low    DOUBLE, control_high DOUBLE,  -- @interval
  sd             DOUBLE,   -- unsteered SD of the value over contexts, to divide by for effects in
                           -- SD [rating points]
  n              INTEGER,  -- held-out contexts [clusters]
  within         BOOLEAN   -- whether the measured change is one that was asked for; true where
                           -- nothing was asked
);

CREATE TABLE counterfactual_profiles (
  -- Observed, counterfactual and interventional profile of every context.
  run            VARCHAR,  -- run of kind counterfactual
  context        INTEGER,  -- 0-based number of the prompt context (cluster)
  value          VARCHAR,  -- id of the value
  observed       DOUBLE,   -- unsteered rating [rating points]
  exogenous      DOUBLE,   -- abducted term: what the graph does not explain [rating points]
  counterfactual DOUBLE,   -- rating under do(target) with the abducted terms [rating points]
  interventional DOUBLE,   -- rating under do(target) with another context's terms [rating points]
  distance       DOUBLE,   -- sum of |target - observed| over the values set [rating points]
  intervened     BOOLEAN   -- whether the distance is more than theta; else nothing was set
);

CREATE TABLE counterfactual_changes (  -- Mean counterfactual change of every value.
  run        VARCHAR,  -- run of kind counterfactual
  value      VARCHAR,  -- id of the value
  target     DOUBLE,   -- what it was set to [rating points]; NULL where it was left free
  observed   DOUBLE,   -- mean unsteered rating [rating points]
  change     DOUBLE,   -- mean of counterfactual less observed [rating points]
  low        DOUBLE, high DOUBLE,  -- @interval over contexts
  graph_low  DOUBLE, graph_high DOUBLE,  -- @quantiles over draws of the edges' weights
                                         -- [rating points]
  null_low   DOUBLE, null_high DOUBLE,  -- @quantiles with the graph's nodes permuted
                                        -- [rating points]
  n          INTEGER   -- contexts [clusters]
);
