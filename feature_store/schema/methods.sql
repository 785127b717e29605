-- Methods: steering methods and controls side by side, for the same wish.

CREATE TABLE arms (
  -- Every steering method and control, for every value at every strength; what was chosen on half
  -- of the contexts, on the other half.
  run                VARCHAR,  -- run of kind comparison
  value              VARCHAR,  -- value that is wished for
  arm                VARCHAR,  -- sae-METHOD | difference-of-means | probe | conva | prompt |
                               -- random-feature | random-direction | wrong-sign
  intervention       INTEGER,  -- number of the intervention, to find its ratings and damages
  dose               DOUBLE,   -- strength [in the unit of the intervention; sentences for a prompt]
  prompt             VARCHAR,  -- text before each question of prompts; empty where the residual is
                               -- steered
  chosen             BOOLEAN,  -- whether this strength was chosen on the first half of the contexts
  within             BOOLEAN,  -- whether the damage is within the budget on the first half of the
                               -- neutral texts
  selected           DOUBLE,   -- mean change of the value in the contexts that choose
                               -- [unsteered SD]
  effect             DOUBLE,   -- mean change of the value in the contexts that report
                               -- [unsteered SD]
  low                DOUBLE, high DOUBLE,  -- @interval over contexts
  points             DOUBLE,   -- the same change [rating points]
  n                  INTEGER,  -- contexts that report [clusters]
  damage             DOUBLE,   -- rise of the loss on the neutral texts that report; after a prompt
                               -- that of the texts' own tokens [nats per token]
  damage_low         DOUBLE, damage_high DOUBLE,  -- @interval over texts
  damage_n           INTEGER,  -- neutral texts that report [texts]
  leakage            DOUBLE,   -- RMS change of the other values over that of the value [ratio]; NaN
                               -- where undefined
  leakage_low        DOUBLE, leakage_high DOUBLE,  -- @interval
  leakage_adjacent   DOUBLE,   -- the same over values up to 60 degrees away [ratio]
  leakage_orthogonal DOUBLE,   -- the same over values between 60 and 120 degrees away [ratio]
  leakage_opposed    DOUBLE,   -- the same over values from 120 degrees away [ratio]
  reason             VARCHAR,  -- why leakage is undefined; empty otherwise
  tokens             INTEGER   -- tokens read besides each question [tokens]; 0 where the residual
                               -- is steered
);

CREATE TABLE arm_effects (
  -- What each method does to every value at its chosen strength, on the contexts that report.
  run    VARCHAR,  -- run of kind comparison
  value  VARCHAR,  -- value that is wished for
  arm    VARCHAR,  -- method or control
  target VARCHAR,  -- value that was measured
  effect DOUBLE,   -- mean change [unsteered SD of the target]
  low    DOUBLE, high DOUBLE,  -- @interval over contexts
  points DOUBLE,   -- the same change [rating points]
  n      INTEGER   -- contexts [clusters]
);

CREATE TABLE arm_contrasts (
  -- Every method and control against the best baseline, paired by context.
  run        VARCHAR,  -- run of kind comparison
  value      VARCHAR,  -- value that is wished for; all = mean over values
  arm        VARCHAR,  -- method or control
  baseline   VARCHAR,  -- prompt or difference-of-means, the better one on the contexts that choose
  difference DOUBLE,   -- effect of the method less that of the baseline [unsteered SD]
  low        DOUBLE, high DOUBLE,  -- @interval over contexts
  p          DOUBLE,   -- two-sided p of no difference [0 to 1]
  q          DOUBLE,   -- p after Benjamini-Hochberg over methods x values; over methods where value
                       -- = all [0 to 1]
  n          INTEGER   -- contexts [clusters]
);

CREATE TABLE arm_means (
  -- Every method and control in the mean over values, at the chosen strengths, with what it costs.
  run            VARCHAR,  -- run of kind comparison
  arm            VARCHAR,  -- method or control
  effect         DOUBLE,   -- change of the value that is wished for, mean over values, contexts
                           -- that report [unsteered SD]
  low            DOUBLE, high DOUBLE,  -- @interval over contexts
  n              INTEGER,  -- contexts that report [clusters]
  damage         DOUBLE,   -- rise of the loss on neutral text, mean over values [nats per token]
  damage_low     DOUBLE, damage_high DOUBLE,  -- @interval over texts
  damage_n       INTEGER,  -- neutral texts that report [texts]
  leakage        DOUBLE,   -- mean leakage over the values where it is defined [ratio]; NaN without
                           -- any
  leakage_values INTEGER,  -- values where leakage is defined [values]
  n_values       INTEGER,  -- values that were compared [values]
  within         INTEGER,  -- values whose chosen strength keeps the damage budget [values]
  harmonic       DOUBLE,   -- harmonic mean of concept, instruct and fluency at the strengths chosen
                           -- for it, mean over values, openings that report [0 to 2]; NULL without
                           -- a judge
  harmonic_low   DOUBLE, harmonic_high DOUBLE,  -- @interval over openings
  tokens         DOUBLE,   -- tokens read besides each question at the chosen strengths, mean over
                           -- values [tokens]
  seconds        DOUBLE,   -- time of a full forward pass a question on this machine, nothing shared
                           -- between questions [s]
  needs          VARCHAR   -- what the method was made of
);

CREATE TABLE arm_scores (
  -- Ratings of what was written under each method at each strength (AxBench), strength chosen on
  -- half of the openings; empty without a judge.
  run           VARCHAR,  -- run of kind comparison
  value         VARCHAR,  -- value that is wished for
  arm           VARCHAR,  -- method or control
  intervention  INTEGER,  -- number of the intervention, to find its texts
  dose          DOUBLE,   -- strength [in the unit of the intervention; sentences for a prompt]
  chosen        BOOLEAN,  -- whether this strength was chosen on the first half of the openings
  selected      DOUBLE,   -- mean harmonic score on the openings that choose [0 to 2]
  concept       DOUBLE,   -- does the text hold the value, mean over the openings that report
                          -- [0 to 2]
  concept_low   DOUBLE, concept_high DOUBLE,  -- @interval over openings
  instruct      DOUBLE,   -- does the text do what was asked [0 to 2]
  instruct_low  DOUBLE, instruct_high DOUBLE,  -- @interval over openings
  fluency       DOUBLE,   -- is its language fluent [0 to 2]
  fluency_low   DOUBLE, fluency_high DOUBLE,  -- @interval over openings
  harmonic      DOUBLE,   -- harmonic mean of the three, text by text, then over texts [0 to 2]
  harmonic_low  DOUBLE, harmonic_high DOUBLE,  -- @interval over openings
  n             INTEGER,  -- texts with all three ratings [texts]
  missing       INTEGER,  -- texts with a rating that was refused or could not be read [texts]
  judge         VARCHAR   -- name of the judge
);

CREATE TABLE arm_texts (  -- What was written under each method, with its ratings.
  run          VARCHAR,  -- run of kind comparison
  intervention INTEGER,  -- number of the intervention; -1: unsteered, not rated
  opening      INTEGER,  -- 0-based number of the opening (cluster)
  prompt       VARCHAR,  -- text as the model received it, before special tokens
  text         VARCHAR,  -- what it wrote
  loss         DOUBLE,   -- mean loss of the unsteered model on the text after the opening alone
                         -- [nats per token]; NaN for an empty text
  concept      DOUBLE,   -- rating [0, 1 or 2]; NaN where the judge was not read or not asked
  instruct     DOUBLE,   -- rating [0, 1 or 2]; NaN where the judge was not read or not asked
  fluency      DOUBLE    -- rating [0, 1 or 2]; NaN where the judge was not read or not asked
);
