-- COUPLE: counterfactual answers from a structural model over text.

CREATE TABLE couple_answers (  -- Answers of a language model under each condition; LLM-simulated.
  run          VARCHAR,  -- run of kind couple
  question     VARCHAR,  -- id of the question
  asked        VARCHAR,  -- the question
  condition    VARCHAR,  -- raw | value-prompt | couple
  text         VARCHAR,  -- the answer; empty where it could not be made
  status       VARCHAR,  -- parsed | refused | unparsed | too-long: whether every step was read
  failed       VARCHAR,  -- step that was not read; empty otherwise
  distance     DOUBLE,   -- sum of |target - abducted score| over the values set [rubric points];
                         -- NULL where not abducted
  intervened   BOOLEAN,  -- whether the distance is more than theta
  mae          DOUBLE,   -- mean |score - target| over the values set [rubric points]; NULL without
                         -- scores
  spearman     DOUBLE,   -- rank correlation of scores and target [-1 to 1]; NULL where undefined
  simulated_by VARCHAR,  -- name of the language model that wrote it
  scored_by    VARCHAR   -- name of the judge
);

CREATE TABLE couple_scores (
  -- How far each answer holds each value, by a judge, beside the target.
  run       VARCHAR,  -- run of kind couple
  question  VARCHAR,  -- id of the question
  condition VARCHAR,  -- raw | value-prompt | couple
  value     VARCHAR,  -- id of the value
  score     DOUBLE,   -- rubric score [1 to 5]; NULL where not read
  again     DOUBLE,   -- the same, values asked in reverse order [1 to 5]; NULL where not read
  target    DOUBLE,   -- wanted score [1 to 5]; NULL where the objective leaves the value free
  scored_by VARCHAR   -- name of the judge
);

CREATE TABLE couple_steps (
  -- Every step of the structural model over text: what was asked, said and read.
  run      VARCHAR,  -- run of kind couple
  question VARCHAR,  -- id of the question
  number   INTEGER,  -- 0-based order within the question
  step     VARCHAR,  -- relevance | raw | value-prompt | score | concepts | residual | action | kept
                     -- | dropped | concept | outline | response; score or again, and a condition,
                     -- where a judge rates
  value    VARCHAR,  -- value that the step is about; empty where about all
  prompt   VARCHAR,  -- what was asked; empty where nothing was
  text     VARCHAR,  -- the raw reply
  reading  VARCHAR,  -- what was read from it [JSON]
  status   VARCHAR,  -- parsed | refused | unparsed | too-long
  llm      VARCHAR   -- who replied; empty where it was worked out
);

CREATE TABLE couple_metrics (
  -- Distance to the target under each condition, and paired differences.
  run       VARCHAR,  -- run of kind couple
  condition VARCHAR,  -- raw | value-prompt | couple, or two of them as a difference
  metric    VARCHAR,  -- mae [rubric points] | spearman [-1 to 1]
  estimate  DOUBLE,   -- mean over questions [unit of the metric]
  low       DOUBLE, high DOUBLE,  -- @interval over questions
  n         INTEGER,  -- questions behind it
  missing   INTEGER   -- questions without a number: refused, unread or undefined
);
