-- Moral dilemmas: those that were written, and what choices in them say step by step.

CREATE TABLE dilemmas (
  -- What was asked of a writer of dilemmas, one row each, unread and filtered ones included; those
  -- that passed stand in the run's dilemmas.json.
  run              VARCHAR,    -- run of kind dilemmas
  number           INTEGER,    -- 0-based number within the run
  dilemma          VARCHAR,    -- id of the dilemma
  norm             VARCHAR,    -- the norm that is put in question; empty unless parsed
  pairs            VARCHAR[],  -- the two values of each step, as a / b
  source           VARCHAR,    -- who wrote it
  answer           VARCHAR,    -- the writer's raw answer; empty for generated ones
  status           VARCHAR,    -- parsed | refused | unparsed | too-long
  reason           VARCHAR,    -- why the answer could not be read; empty otherwise
  leaks            VARCHAR[],  -- words that name a value
  reader           VARCHAR,    -- who read it blind; empty where nobody did
  inferred         VARCHAR[],  -- the two values of each step that a blind reader found, as a / b;
                               -- empty unless parsed
  inference        VARCHAR,    -- the blind reader's raw answer; empty where nobody was asked
  inference_status VARCHAR,    -- parsed | refused | unparsed | too-long; empty where nobody was
                               -- asked
  passed           BOOLEAN     -- whether all filters let it through
);

CREATE TABLE step_preferences (
  -- How much oftener than by chance a value is chosen at each step of dilemmas.
  run        VARCHAR,  -- run of kind profile
  steering   VARCHAR,  -- what was changed; base = nothing
  step       INTEGER,  -- step of the dilemma, from 1
  value      VARCHAR,  -- id of the value
  preference DOUBLE,   -- chosen / offered - 1/2 [-0.5 to 0.5]; NULL below 5 dilemmas
  low        DOUBLE, high DOUBLE,  -- @interval over dilemmas
  n          INTEGER,  -- dilemmas that offer the value at the step (clusters)
  offered    INTEGER,  -- parsed answers that could choose it [answers]
  missing    INTEGER   -- answers refused, unread or too long [answers]
);

CREATE TABLE win_rates (
  -- How often one value is chosen where it stands against another, over all steps of dilemmas.
  run      VARCHAR,  -- run of kind profile
  steering VARCHAR,  -- what was changed; base = nothing
  value    VARCHAR,  -- id of the value
  against  VARCHAR,  -- id of the value it stood against
  rate     DOUBLE,   -- share of the choices between the two that chose the value [0 to 1]; NULL
                     -- below 5 dilemmas
  low      DOUBLE, high DOUBLE,  -- @interval over dilemmas
  n        INTEGER,  -- dilemmas in which the two met (clusters)
  met      INTEGER   -- parsed choices between the two [answers]
);

CREATE TABLE transitivity (
  -- Triads of values of which each wins against the next, beside what coins would give.
  run      VARCHAR,    -- run of kind profile
  steering VARCHAR,    -- what was changed; base = nothing
  triads   INTEGER,    -- triads whose three pairs each met in at least 5 dilemmas
  cycles   DOUBLE,     -- cyclic ones among them, ties decided by coins (on average)
  low      DOUBLE, high DOUBLE,  -- @quantiles of the cycles over bootstrapped dilemmas
  chance   DOUBLE,     -- cycles expected where coins decide every pair: a quarter of the triads
  found    VARCHAR[],  -- the cycles without a tie, as a > b > c > a
  n        INTEGER     -- dilemmas (clusters)
);

CREATE TABLE value_strengths (
  -- Strengths of values by Bradley and Terry over all choices between two (ours, not the paper's).
  run      VARCHAR,  -- run of kind profile
  steering VARCHAR,  -- what was changed; base = nothing
  value    VARCHAR,  -- id of the value
  strength DOUBLE,   -- log-odds against a value of mean strength [nats]; NULL below 5 dilemmas
  low      DOUBLE, high DOUBLE,  -- @interval over dilemmas
  n        INTEGER   -- dilemmas that offer the value (clusters)
);

CREATE TABLE step_agreement (
  -- Whether two subjects rank the values alike in the same dilemmas, step by step.
  run       VARCHAR,  -- run of kind contrast
  subject   VARCHAR,  -- who is compared
  reference VARCHAR,  -- with whom
  step      INTEGER,  -- step of the dilemma, from 1
  rho       DOUBLE,   -- Spearman correlation of the preferences [-1 to 1]; NULL below three shared
                      -- values
  low       DOUBLE, high DOUBLE,  -- @quantiles of rho over bootstrapped dilemmas [-1 to 1]
  n         INTEGER   -- values behind it
);
