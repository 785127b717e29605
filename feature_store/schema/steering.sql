-- Steering: what was changed in a model, what it damaged, and the ratings measured under it.

CREATE TABLE interventions (
  -- What a sweep changed: each labelled feature and each control at each dose.
  run          VARCHAR,  -- run of kind effects, prediction, plan, comparison or neurons
  intervention INTEGER,  -- 0-based number within the sweep
  steering     VARCHAR,  -- readable name of the steering
  kind         VARCHAR,  -- feature | random-feature | random-direction | joint (its parts stand in
                         -- joint_features or joint_units) | direction (several features as one, or a stored
                         -- one; the name says which) | prompt | edited-neurons | reversed-neurons |
                         -- random-neurons
  unit_id      INTEGER,  -- 0-based number of what is steered; its doses share it
  feature      INTEGER,  -- 0-based feature index; -1 where it is not one feature
  value        VARCHAR,  -- value the feature is labelled with, or whose neurons are edited or
                         -- matched; empty for other controls
  polarity     INTEGER,  -- polarity of the label; +1 for controls and neurons, -1 for neurons in
                         -- exchanged roles
  dose         DOUBLE,   -- strength [in unit]
  unit         VARCHAR,  -- raw | feature_max | norm_share | sentences (of a prompt) | gamma (of
                         -- neurons)
  damage       DOUBLE,   -- rise of the mean loss on neutral text [nats per token]
  damage_low   DOUBLE, damage_high DOUBLE,  -- @interval over texts
  damage_n     INTEGER   -- neutral texts [texts]
);

CREATE TABLE damages (  -- Damage of every intervention to every neutral text.
  run          VARCHAR,  -- run of kind effects, prediction, plan, comparison or neurons
  intervention INTEGER,  -- number of the intervention
  text         INTEGER,  -- 0-based number of the neutral text
  damage       DOUBLE    -- steered less unsteered mean loss of the text [nats per token]
);

CREATE TABLE ratings (
  -- The measurements behind every effect: expected rating of each prompt, steered and unsteered.
  run          VARCHAR,  -- run of kind effects, prediction, plan, comparison or neurons
  intervention INTEGER,  -- number of the intervention
  context      INTEGER,  -- 0-based number of the prompt context (cluster)
  item         VARCHAR,  -- id of the item
  wording      VARCHAR,  -- name of the wording
  "order"      VARCHAR,  -- ascending | descending: order of the options
  value        VARCHAR,  -- value the item measures
  rating       FLOAT,    -- expected rating while steered [1 to number of options]; in mode voice
                         -- held less reversed [nats per token]
  base         FLOAT     -- the same of the same prompt, unsteered [as the rating]
);

CREATE TABLE topic_ratings (
  -- How likely talk about an item's topic is, steered and unsteered, whichever stance it takes (mode
  -- voice); beside `ratings`.
  run          VARCHAR,  -- run of kind effects, prediction, plan or comparison
  intervention INTEGER,  -- number of the intervention
  context      INTEGER,  -- 0-based number of the open question (cluster)
  item         VARCHAR,  -- id of the item
  wording      VARCHAR,  -- name of the open question
  "order"      VARCHAR,  -- ascending
  value        VARCHAR,  -- value the item measures
  rating       FLOAT,    -- mean log-probability of statement and reversal while steered
                         -- [nats per token]
  base         FLOAT     -- the same, unsteered [nats per token]
);
