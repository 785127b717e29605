-- Survey: at which layers of a model values can be read, and at which they can be written.

CREATE TABLE survey_reading (  -- Held-out linear probes of each value at each layer.
  run          VARCHAR,  -- run of kind survey
  layer        INTEGER,  -- 0-based decoder layer whose output was read
  value        VARCHAR,  -- id of the value; all = mean over values
  auroc        DOUBLE,   -- held-out AUROC of texts with the value against others of their context
                         -- [0 to 1, 0.5 = chance]
  low          DOUBLE, high DOUBLE,  -- @interval over contexts or texts; of all, over values
  null_high    DOUBLE,   -- 97.5 % quantile of the same with marks permuted within contexts [0 to 1]
  p            DOUBLE,   -- share of permutations that are read as well [0 to 1]
  held         INTEGER,  -- texts with the value; of all, values
  n            INTEGER,  -- texts
  permutations INTEGER,  -- permutations behind null_high and p
  seed         INTEGER   -- seed of the sample, the folds and the permutations
);

CREATE TABLE survey_writing (
  -- A light steering of each layer along each value's difference of means, at equal damage.
  run           VARCHAR,  -- run of kind survey
  layer         INTEGER,  -- 0-based decoder layer whose output was steered
  value         VARCHAR,  -- id of the value that was steered for; all = mean over values
  effect        DOUBLE,   -- change of its rating less the mean change of the others
                          -- [rating points; in mode voice nats per token]
  low           DOUBLE, high DOUBLE,  -- @interval over contexts
  null_high     DOUBLE,   -- 97.5 % quantile of the same under random directions [the same]
  strength      DOUBLE,   -- strength of the steering [share of the layer's median residual norm]
  reached       BOOLEAN,  -- false: no strength that was tried does the damage at which layers are
                          -- compared
  damage        DOUBLE,   -- rise of the loss on neutral text, mean over values [nats per token]
  random_damage DOUBLE,   -- the same under random directions of that length [nats per token]
  directions    INTEGER,  -- random directions
  n             INTEGER,  -- contexts [clusters]
  seed          INTEGER   -- seed of the contexts, the random directions and the bootstrap
);
