-- Effects: what steering one value does to it and to the others.

CREATE TABLE dose_effects (  -- Dose-response of every feature and control on every value.
  run      VARCHAR,  -- run of kind effects
  unit_id  INTEGER,  -- what is steered
  kind     VARCHAR,  -- feature | group | direction | random-feature | random-direction
  feature  INTEGER,  -- 0-based feature index; -1 for a random direction
  value    VARCHAR,  -- value the feature is labelled with; empty for controls
  polarity INTEGER,  -- polarity of the label
  dose     DOUBLE,   -- strength [in the sweep's unit]
  target   VARCHAR,  -- value that was measured
  effect   DOUBLE,   -- paired mean change [unsteered SD of the target]
  low      DOUBLE, high DOUBLE,  -- @interval over contexts
  points   DOUBLE,   -- the same change [rating points]
  n        INTEGER,  -- contexts [clusters]
  damage   DOUBLE    -- rise of the loss on neutral text at this dose [nats per token]
);

CREATE TABLE matched (  -- Damage-matched strength of every feature and control.
  run      VARCHAR,  -- run of kind effects
  unit_id  INTEGER,  -- what is steered
  kind     VARCHAR,  -- feature | group | direction | random-feature | random-direction
  feature  INTEGER,  -- 0-based feature index; -1 for a random direction
  value    VARCHAR,  -- value the feature is labelled with; empty for controls
  polarity INTEGER,  -- polarity of the label
  strength DOUBLE,   -- strength at which the damage equals the sweep's limit [in the sweep's unit]
  reached  BOOLEAN,  -- false: the damage stays below the limit at every dose, strength is the
                     -- largest dose
  damage   DOUBLE    -- damage at that strength [nats per token]
);

CREATE TABLE side_effects (  -- The value x value matrix at damage-matched strength.
  run       VARCHAR,  -- run of kind effects
  source    VARCHAR,  -- value whose features were steered
  target    VARCHAR,  -- value that was measured
  effect    DOUBLE,   -- mean change, turned so that the source rises [unsteered SD of the target]
  low       DOUBLE, high DOUBLE,  -- @interval over contexts
  p         DOUBLE,   -- two-sided p of no change, over contexts and over the value's features, the
                      -- larger one [0 to 1]
  q         DOUBLE,   -- p after Benjamini-Hochberg over off-diagonal cells [0 to 1]
  null_low  DOUBLE, null_high DOUBLE,  -- @quantiles under random features and directions [SD]
  n         INTEGER,  -- contexts [clusters]
  features  INTEGER   -- features of the source value [features]
);

CREATE TABLE leakage (  -- How much of a value's steering goes elsewhere.
  run     VARCHAR,  -- run of kind effects
  source  VARCHAR,  -- value whose features were steered
  part    VARCHAR,  -- all | adjacent | orthogonal | opposed (place of the targets on the circle)
  leakage DOUBLE,   -- RMS of the off-diagonal effects over the diagonal one [ratio]; NULL where
                    -- undefined
  low     DOUBLE, high DOUBLE,  -- @interval
  reason  VARCHAR   -- why it is undefined; empty otherwise
);

CREATE TABLE dose_curves (  -- The search for a sweep's doses: damage over strength, before it began.
  run    VARCHAR,  -- run of kind effects
  kind   VARCHAR,  -- feature | group | direction | random-direction
  dose   DOUBLE,   -- strength [in the sweep's unit]
  damage DOUBLE,   -- mean rise of the loss on neutral text [nats per token]
  low    DOUBLE, high DOUBLE,  -- @interval over neutral texts
  units  INTEGER,  -- features, or random directions, that were averaged
  n      INTEGER,  -- neutral texts
  seed   INTEGER   -- seed of the directions and of the bootstrap
);

CREATE TABLE topic_effects (
  -- What steering a value makes the model hold, beside the talk about a topic that it makes
  -- likelier (mode voice): the second must not be taken for the first.
  run        VARCHAR,  -- run of kind effects
  source     VARCHAR,  -- value whose features were steered
  target     VARCHAR,  -- value that was measured
  held       DOUBLE,   -- mean change of held less reversed, turned so that the source rises
                       -- [nats per token]
  held_low   DOUBLE, held_high DOUBLE,  -- @interval over open questions
  topic      DOUBLE,   -- mean change of the statements and their reversals together
                       -- [nats per token]
  topic_low  DOUBLE, topic_high DOUBLE,  -- @interval over open questions
  n          INTEGER   -- open questions [clusters]
);
