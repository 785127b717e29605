-- Scores: what a label is worth beyond its labeler's own evidence, and which features steer cleanly.

CREATE TABLE label_scores (
  -- A score of an accepted label; several of one label stand beside each other.
  run      VARCHAR,  -- run of kind scores
  labels   VARCHAR,  -- run of the label
  feature  INTEGER,  -- 0-based feature index
  value    VARCHAR,  -- id of the value
  polarity INTEGER,  -- polarity of the label: +1 or -1
  score    VARCHAR,  -- causal | beside | embedding | detection | fuzzing | intruder | output
  figure   DOUBLE,   -- the score: of causal and beside a change at equal damage [unsteered SD], of
                     -- embedding an area under the ROC curve, of detection and fuzzing balanced
                     -- accuracy, of intruder accuracy, of output rank times probability [0 to 1]
  low      DOUBLE, high DOUBLE,  -- @interval; NULL of output
  n        INTEGER,  -- contexts behind it, rounds of intruder, prompts of output
  chance   DOUBLE,   -- what guessing reaches; of causal, beside and output the 97.5 % quantile under
                     -- controls [unit of figure]
  passed   BOOLEAN,  -- whether it is surely better than chance (the interval, or of output the
                     -- figure); of beside, no worse than it
  source   VARCHAR   -- by whom or what: run of the sweep, encoder, judge, or prompt
);

CREATE TABLE method_scores (
  -- How the labels of a method do by each score: all scored ones of a run of labels together.
  run      VARCHAR,  -- run of kind scores
  labels   VARCHAR,  -- run of the labels
  method   VARCHAR,  -- name of the labeler
  score    VARCHAR,  -- as in label_scores
  figure   DOUBLE,   -- mean of label_scores.figure
  low      DOUBLE, high DOUBLE,  -- @interval over labels
  share    DOUBLE,   -- share of the scored labels that passed [0 to 1]
  share_low DOUBLE, share_high DOUBLE,  -- @interval(share) after Wilson
  chance_share DOUBLE,  -- the same share where each label names another value [0 to 1]; NULL where
                        -- that was not tried
  n        INTEGER,  -- scored labels
  accepted INTEGER   -- accepted labels of the run, scored or not
);

CREATE TABLE forecasts (
  -- How cleanly every live feature should steer, by what is known of it without steering.
  run        VARCHAR,  -- run of kind forecast
  feature    INTEGER,  -- 0-based feature index
  stability  DOUBLE,   -- forecast mean cosine of its effects between contexts [-1 to 1]; of a
                       -- steered feature by fits that did not see it
  collateral DOUBLE,   -- forecast share of its squared effect beside the value that moves most [0 to
                       -- 1, where a forecast may go beyond]
  clean      DOUBLE,   -- mean rank of both among live features [0 to 1; 1 = cleanest]
  measured_stability  DOUBLE,  -- stability in the sweep [-1 to 1]; NULL where it was not steered
  measured_collateral DOUBLE   -- collateral in the sweep [0 to 1]; NULL where it was not steered
);

CREATE TABLE forecast_skills (
  -- How well forecasts meet what was measured, on features that their fits did not see.
  run        VARCHAR,  -- run of kind forecast
  target     VARCHAR,  -- stability | collateral
  predictors VARCHAR,  -- all | frequency | magnitude
  spearman   DOUBLE,   -- rank correlation of forecast and measurement [-1 to 1]
  low        DOUBLE, high DOUBLE,  -- @interval over features
  lead       DOUBLE,   -- spearman of all predictors less this one, or less 0 where this one lies
                       -- below [-2 to 2]
  lead_low   DOUBLE, lead_high DOUBLE,  -- @interval(lead) over features, paired
  n          INTEGER   -- features
);

CREATE TABLE forecast_weights (  -- What the forecasts go by.
  run       VARCHAR,  -- run of kind forecast
  target    VARCHAR,  -- stability | collateral
  predictor VARCHAR,  -- density, cosine, jaccard, logit_kurtosis, ...
  share     DOUBLE    -- share of what the fit explains that is by this predictor [0 to 1]
);
