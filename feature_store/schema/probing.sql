-- Probing: directions learned from pairs of texts, and the features they are made of.

CREATE TABLE pairs (  -- Pairs of texts that differ in one value, refused ones included.
  run     VARCHAR,  -- run of kind probes
  pair    INTEGER,  -- 0-based number of the pair
  value   VARCHAR,  -- id of the value
  held    VARCHAR,  -- text in which the value is held
  opposed VARCHAR,  -- the same text without the value, or against it
  context VARCHAR,  -- what both texts share; never split between training and test
  kept    BOOLEAN,  -- whether probes were trained or tested on it
  reason  VARCHAR   -- why it was refused; empty otherwise
);

CREATE TABLE probes (  -- Linear probes of every value at every layer.
  run          VARCHAR,  -- run of kind probes
  value        VARCHAR,  -- id of the value
  layer        INTEGER,  -- 0-based decoder layer whose output is read
  accuracy     DOUBLE,   -- share of held-out texts told right [0 to 1]
  low          DOUBLE, high DOUBLE,  -- @interval over contexts
  n            INTEGER,  -- held-out contexts [contexts]
  control      DOUBLE,   -- accuracy where the sides of pairs are swapped at random [0 to 1]
  bias         DOUBLE,   -- b [nats of log-odds]
  norm         DOUBLE,   -- length of w [nats of log-odds per residual unit]
  length_auroc DOUBLE,   -- AUROC of the number of tokens alone [0 to 1, 0.5 = none]
  chosen       BOOLEAN   -- whether ConVA steers this layer
);

CREATE TABLE probe_features (
  -- The SAE features that a stored direction is made of: cosines to decoder rows at the SAE's site.
  run       VARCHAR,  -- run of kind probes
  value     VARCHAR,  -- id of the value
  kind      VARCHAR,  -- probe | difference-of-means
  rank      INTEGER,  -- 0-based, the largest absolute cosine first
  feature   INTEGER,  -- 0-based feature index
  cosine    DOUBLE,   -- cosine of the decoder row to the direction [-1 to 1]
  null_high DOUBLE    -- 97.5 % quantile of the largest absolute cosine to a random direction
                      -- [0 to 1]
);
