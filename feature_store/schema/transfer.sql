-- Transfer: whether labels carry over to texts, as independent ears hear them.

CREATE TABLE transfer_ears (
  -- How good an ear is at each value, on labelled texts that it never saw.
  run       VARCHAR,  -- run of kind transfer
  ear       VARCHAR,  -- name of the ear
  value     VARCHAR,  -- id of the value
  auroc     DOUBLE,   -- area under the ROC curve [0 to 1, 0.5 = chance]; NULL where no text, or every
                      -- text, holds the value
  low       DOUBLE, high DOUBLE,  -- @interval over texts
  precision DOUBLE,   -- average precision [0 to 1]; share is chance
  share     DOUBLE,   -- share of the texts that hold the value [0 to 1]
  n         INTEGER,  -- labelled texts that it never saw [texts]
  held      INTEGER,  -- of these, texts that hold the value [texts]
  sd        DOUBLE    -- SD of its scores over these texts, the unit of effects [as the score]; NULL
                      -- where it is deaf to the value
);

CREATE TABLE transfer_arms (
  -- What was steered, up or down, at the strength of equal damage, and how its texts read.
  run          VARCHAR,  -- run of kind transfer
  intervention INTEGER,  -- number of the intervention; -1 is unsteered
  arm          VARCHAR,  -- sae-METHOD | difference-of-means | probe | prompt | random-feature |
                         -- random-direction | unsteered
  value        VARCHAR,  -- value that is steered; empty for controls
  turn         VARCHAR,  -- up | down; empty unsteered
  unit_id      INTEGER,  -- 0-based number of what is steered; -1 unsteered
  steering     VARCHAR,  -- what is done to the residual
  prompt       VARCHAR,  -- text before each opening; empty where the residual is steered
  strength     DOUBLE,   -- strength of equal damage, negative down [in the unit of the steering];
                         -- sentences of a prompt
  reached      BOOLEAN,  -- false: the damage stays below the budget at every dose
  damage       DOUBLE,   -- rise of the loss on neutral text at that strength [nats per token]; after
                         -- a prompt that of the texts' own tokens
  damage_low   DOUBLE, damage_high DOUBLE,  -- @interval over texts
  damage_n     INTEGER,  -- neutral texts [texts]
  strange      DOUBLE,   -- the unsteered model's loss on what was written, less that on the
                         -- unsteered text of the same opening [nats per token]; unsteered the loss
                         -- itself
  strange_low  DOUBLE, strange_high DOUBLE,  -- @interval over openings
  strange_n    INTEGER,  -- openings with a text [openings]
  tokens       DOUBLE,   -- mean length of what was written [tokens]
  broken       INTEGER,  -- texts that are empty or far stranger than the model's own; no effect
                         -- counts them [texts]
  texts        INTEGER   -- texts that were written [texts]
);

CREATE TABLE transfer_texts (
  -- What was written after each opening, steered or not.
  run          VARCHAR,  -- run of kind transfer
  intervention INTEGER,  -- number of the intervention; -1 is unsteered
  opening      INTEGER,  -- 0-based number of the opening
  prompt       VARCHAR,  -- what was continued
  text         VARCHAR,  -- what was written
  loss         DOUBLE,   -- the unsteered model's mean loss on it [nats per token]; NULL for an empty
                         -- text
  tokens       INTEGER,  -- its length [tokens]
  broken       BOOLEAN   -- whether it is left out of the effects
);

CREATE TABLE transfer_scores (
  -- What each ear hears in each text.
  run          VARCHAR,  -- run of kind transfer
  ear          VARCHAR,  -- name of the ear
  intervention INTEGER,  -- number of the intervention; -1 is unsteered
  opening      INTEGER,  -- 0-based number of the opening
  value        VARCHAR,  -- id of the value that is listened for
  score        DOUBLE    -- as the ear gives it [assessor: -1 to 1; encoder: cosine less the mean over
                         -- values; planted language: sentences]
);

CREATE TABLE transfer_effects (
  -- What an ear hears of every value when one is steered, against the unsteered text of the same
  -- opening, beside controls at equal damage.
  run        VARCHAR,  -- run of kind transfer
  ear        VARCHAR,  -- name of the ear
  arm        VARCHAR,  -- what is steered
  turn       VARCHAR,  -- up | down | between: half of up less down
  value      VARCHAR,  -- value that is steered
  target     VARCHAR,  -- value that is listened for
  effect     DOUBLE,   -- mean change [SD of the ear's scores over human texts]
  low        DOUBLE, high DOUBLE,  -- @interval over openings
  n          INTEGER,  -- openings with both texts unbroken [clusters]
  points     DOUBLE,   -- the same change [as the ear's score]
  null_low   DOUBLE, null_high DOUBLE,  -- @quantiles of the controls' effects on the target
  controls   INTEGER,  -- controls behind the band, each way counted [steerings]
  above      DOUBLE,   -- mean change less that of the controls at the same opening [SD as before]
  above_low  DOUBLE, above_high DOUBLE,  -- @interval over openings
  p          DOUBLE,   -- two-sided p of no difference from the controls [0 to 1]
  q          DOUBLE,   -- p after Benjamini-Hochberg over the arm's and turn's steered values, the
                       -- other targets apart [0 to 1]
  heard      BOOLEAN   -- whether the effect lies outside the band and q is below 0.05
);

CREATE TABLE transfer_ranks (
  -- How high the steered values stand among all values for an ear, and how much else moved.
  run          VARCHAR,  -- run of kind transfer
  ear          VARCHAR,  -- name of the ear
  arm          VARCHAR,  -- what is steered
  turn         VARCHAR,  -- up | down (rows turned round) | between
  rank         DOUBLE,   -- share of the other values that change less, mean over steered values
                         -- [0 to 1, 0.5 = chance]
  low          DOUBLE, high DOUBLE,  -- @interval over openings
  p            DOUBLE,   -- one-sided permutation p of a rank as high, values renamed [0 to 1]
  n            INTEGER,  -- openings [clusters]
  n_values     INTEGER,  -- values that were steered [values]
  heard        INTEGER,  -- steered values that are heard, on the side they were steered to [values]
  others_moved INTEGER,  -- other values that are heard to move [pairs]
  others       INTEGER   -- other values that could be heard [pairs]
);
