-- Value neurons: which units are active when a value is held, and what editing them does.

CREATE TABLE neuron_answers (
  -- What a model wrote as a person who holds a value or its reverse; neurons are counted on these
  -- answers.
  run         VARCHAR,  -- run of kind neurons
  value       VARCHAR,  -- id of the value
  pole        VARCHAR,  -- value | reversed
  answer      INTEGER,  -- 0-based number within the value and pole (cluster of the shares)
  description VARCHAR,  -- the person the model was told to be
  question    VARCHAR,  -- what was asked
  prompt      VARCHAR,  -- text as the model received it, before special tokens
  text        VARCHAR,  -- what it answered
  tokens      INTEGER   -- response tokens that were counted [tokens]
);

CREATE TABLE neurons (
  -- Value neurons: those more often active when a value is held than when it is reversed, and the
  -- other way round.
  run             VARCHAR,  -- run of kind neurons
  value           VARCHAR,  -- id of the value
  layer           INTEGER,  -- 0-based decoder layer; the SAE's own where its features are the
                            -- neurons
  neuron          INTEGER,  -- 0-based gate unit of the layer's MLP, or feature of the SAE
  role            VARCHAR,  -- target: more active under the value; opposing: under its reverse
  p_value         DOUBLE,   -- share of response tokens with the value described on which it is
                            -- active [0 to 1]
  p_reversed      DOUBLE,   -- the same with the reverse described [0 to 1]
  delta           DOUBLE,   -- p_value less p_reversed [-1 to 1]
  low             DOUBLE, high DOUBLE,  -- @interval over answers; neurons were chosen by delta, so
                                        -- it leans outward
  tokens_value    BIGINT,   -- response tokens behind p_value [tokens]
  tokens_reversed BIGINT,   -- response tokens behind p_reversed [tokens]
  u               DOUBLE    -- scale of its edit: 95th percentile where active, or the larger p
                            -- [activation units, or 0 to 1]
);

CREATE TABLE neuron_effects (
  -- Value profile and damage under every edit of value neurons, beside a matched random control.
  run         VARCHAR,  -- run of kind neurons
  value       VARCHAR,  -- value whose neurons are edited; empty: none; all: mean over the values
  condition   VARCHAR,  -- default | edited | reversed (roles exchanged) | random (as many other
                        -- neurons a layer)
  gamma       DOUBLE,   -- how far target neurons are pushed [multiples of u]
  target      VARCHAR,  -- value that was measured; own: each value by its own neurons
  neurons     INTEGER,  -- neurons edited [neurons]
  n           INTEGER,  -- contexts [clusters]
  mean        DOUBLE,   -- mean rating under the edit [rating points]
  mean_low    DOUBLE, mean_high DOUBLE,  -- @interval over contexts
  effect      DOUBLE,   -- paired mean change from default [rating points]
  low         DOUBLE, high DOUBLE,  -- @interval over contexts
  p           DOUBLE,   -- two-sided p of no change [0 to 1]
  excess      DOUBLE,   -- effect less that of the control at the same gamma, paired
                        -- [rating points]; NULL without control
  excess_low  DOUBLE, excess_high DOUBLE,  -- @interval over contexts
  draws       INTEGER,  -- draws of the control behind the row, 0 elsewhere [draws]
  draw_sd     DOUBLE,   -- SD of the effect over the draws of the control [rating points]; NULL
                        -- elsewhere
  damage      DOUBLE,   -- rise of the mean loss on neutral text [nats per token]
  damage_low  DOUBLE, damage_high DOUBLE,  -- @interval over texts
  damage_n    INTEGER   -- neutral texts [texts]
);

CREATE TABLE neuron_samples (
  -- A judge's score of every sample written under an edit, refused and unparsed ones included.
  run       VARCHAR,  -- run of kind neurons
  value     VARCHAR,  -- value that the sample is judged for
  condition VARCHAR,  -- default | edited | reversed | random
  gamma     DOUBLE,   -- how far target neurons are pushed [multiples of u]
  sample    INTEGER,  -- 0-based number; the same question under every condition (cluster)
  prompt    VARCHAR,  -- text as the model received it, before special tokens
  text      VARCHAR,  -- what it wrote
  score     DOUBLE,   -- how far the text expresses the value [1 to 5]; NULL unless parsed
  status    VARCHAR,  -- parsed | refused | unparsed | too-long
  judge     VARCHAR,  -- name of the judge
  reply     VARCHAR   -- the judge's raw answer
);

CREATE TABLE neuron_scores (
  -- Mean scores of a judge under each condition, paired with the unedited samples.
  run       VARCHAR,  -- run of kind neurons
  value     VARCHAR,  -- value that the samples are judged for
  condition VARCHAR,  -- default | edited | reversed | random
  gamma     DOUBLE,   -- how far target neurons are pushed [multiples of u]
  mean      DOUBLE,   -- mean score of the samples whose score was parsed [1 to 5]
  change    DOUBLE,   -- mean change from default over samples parsed under both [score points]
  low       DOUBLE, high DOUBLE,  -- @interval over samples
  p         DOUBLE,   -- two-sided p of no change [0 to 1]
  n         INTEGER,  -- samples behind the change [clusters]
  missing   INTEGER   -- samples whose score was refused or unread [samples]
);
