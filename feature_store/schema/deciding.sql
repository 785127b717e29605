-- Deciding: scenarios, what is chosen in them, and what steering changes of that.

CREATE TABLE scenarios (
  -- What was asked of a writer of scenarios, one row each, unread and filtered ones included.
  run              VARCHAR,    -- run of kind scenarios
  number           INTEGER,    -- 0-based number within the run
  scenario         VARCHAR,    -- id of the scenario
  text             VARCHAR,    -- the situation; empty unless parsed
  at_stake         VARCHAR[],  -- ids of the values it was to be about
  source           VARCHAR,    -- who wrote and scored it
  answer           VARCHAR,    -- the writer's raw answer; empty for scenarios that were read or
                               -- generated
  status           VARCHAR,    -- parsed | refused | unparsed | too-long
  reason           VARCHAR,    -- why the answer could not be read; empty otherwise
  leaks            VARCHAR[],  -- words of the text or an action that name a value
  reader           VARCHAR,    -- who read it blind; empty where nobody did
  inferred         VARCHAR[],  -- values that a blind reader found in the text; empty unless asked
                               -- and parsed
  inference        VARCHAR,    -- the blind reader's raw answer; empty where nobody was asked
  inference_status VARCHAR,    -- parsed | refused | unparsed | too-long; empty where nobody was
                               -- asked
  agreement        DOUBLE,     -- Jaccard index of at_stake and inferred [0 to 1]; NULL where
                               -- nothing was inferred
  passed           BOOLEAN     -- whether all filters let it through; a person's review comes on top
);

CREATE TABLE actions (  -- The actions of every scenario that was read, with their scores.
  run      VARCHAR,    -- run of kind scenarios
  scenario VARCHAR,    -- id of the scenario
  action   INTEGER,    -- 0-based number within the scenario
  text     VARCHAR,    -- what is done
  scored   VARCHAR[],  -- ids of the scored values
  scores   DOUBLE[]    -- how far the action serves each of them [-1 to 1]
);

CREATE TABLE reviews (
  -- What people said of scenarios; a later review of the same scenario counts, none is overwritten.
  run       VARCHAR,  -- run of kind review
  scenarios VARCHAR,  -- run that holds the scenario
  scenario  VARCHAR,  -- id of the scenario
  number    INTEGER,  -- how many reviews of it came before [reviews]
  accepted  BOOLEAN,  -- whether it may be used
  note      VARCHAR,  -- why
  reviewer  VARCHAR   -- who says so
);

CREATE TABLE choices (  -- Every decision of a run, unread ones included.
  run           VARCHAR,    -- run of kind decisions
  scenario      VARCHAR,    -- id of the scenario
  steering      VARCHAR,    -- what was changed; base = nothing
  kind          VARCHAR,    -- base | steering | random-direction
  "order"       VARCHAR,    -- given | reversed: order in which the actions were offered
  logprobs      DOUBLE[],   -- log-probability of each action in the scenario's order [nats]; empty
                            -- when generated
  tokens        INTEGER[],  -- tokens of each action [tokens]; empty when generated
  probabilities DOUBLE[],   -- softmax over the actions [0 to 1]; empty when generated
  chosen        INTEGER,    -- 0-based number of the chosen action; -1 unless parsed
  text          VARCHAR,    -- raw answer when generated
  status        VARCHAR     -- parsed | refused | unparsed
);

CREATE TABLE decision_effects (
  -- What steering, and random directions of equal norm, do to the values that decisions serve.
  run       VARCHAR,  -- run of kind decisions
  steering  VARCHAR,  -- what was changed
  kind      VARCHAR,  -- steering | random-direction
  outcome   VARCHAR,  -- expected (weighted by probability) | chosen
  value     VARCHAR,  -- id of the value
  base      DOUBLE,   -- mean unsteered score [-1 to 1]
  steered   DOUBLE,   -- mean steered score over the same scenarios [-1 to 1]
  effect    DOUBLE,   -- mean paired difference, steered less base [score points]
  low       DOUBLE, high DOUBLE,  -- @interval over scenarios
  p         DOUBLE,   -- two-sided p of no difference [0 to 1]
  q         DOUBLE,   -- p after Benjamini-Hochberg over the values of the outcome and steering
                      -- [0 to 1]
  null_low  DOUBLE, null_high DOUBLE,  -- @quantiles of the effect under random directions
                                       -- [score points]; NULL for a control
  n         INTEGER,  -- scenarios whose actions differ on the value and that both states answered
                      -- [clusters]
  missing   INTEGER   -- scenarios whose actions differ on the value and that one state left
                      -- unanswered [scenarios]
);

CREATE TABLE agreements (
  -- How well the ranking that preferences imply (value-driven decision-making) meets the model's
  -- own.
  run      VARCHAR,  -- run of kind decisions
  steering VARCHAR,  -- what was changed; base = nothing
  metric   VARCHAR,  -- os_sim (overlap of the two rankings' tops, mean over depths) | first_acc
                     -- (same first action)
  mean     DOUBLE,   -- mean over scenarios [0 to 1]
  low      DOUBLE, high DOUBLE,  -- @interval over scenarios
  chance   DOUBLE,   -- expectation for a random ranking [0 to 1]
  n        INTEGER   -- scenarios [clusters]
);
