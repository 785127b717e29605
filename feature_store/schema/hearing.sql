-- Hearing: whether an instrument hears a value that a persona primes, before its profile is believed.

CREATE TABLE hearings (  -- How well each way of asking hears the value that is primed.
  run            VARCHAR,  -- run of kind hearing
  instrument     VARCHAR,  -- name of the instrument
  mode           VARCHAR,  -- logprob | voice
  wording        VARCHAR,  -- name of the wording or open question; all = their mean
  "order"        VARCHAR,  -- ascending | descending | both: order in which the scale is shown
  part           VARCHAR,  -- rating (on a scale) | held (less reversed) | topic (their mean)
  rank           DOUBLE,   -- share of the other values whose change lies below that of the primed
                           -- one, mean over values [0 to 1, 0.5 = chance]
  low            DOUBLE, high DOUBLE,  -- @interval over templates of personas and items
  p              DOUBLE,   -- share of draws from the null in which the best way of the mode ranks
                           -- as high, times the modes that were tried [0 to 1]
  null_high      DOUBLE,   -- 97.5 % quantile of the rank under permutation [0 to 1]
  passes         BOOLEAN,  -- whether the instrument is heard: p, rank and interval past their limits;
                           -- never of a topic's part
  shift          DOUBLE,   -- mean change of the primed value, less that of all
                           -- [rating points; nats per token in mode voice]
  resolution     DOUBLE,   -- smallest difference between values that priming tells from talk about
                           -- something else [as the shift]
  items_share    DOUBLE,   -- share of the variance of unprimed answers that is the items'
                           -- [0 to 1]; NULL where the scale is shown one way only
  position_share DOUBLE,   -- share that is the position's, the order of the scale [0 to 1]; NULL
                           -- where the scale is shown one way only
  agreement      DOUBLE,   -- mean correlation of the changes under two wordings [-1 to 1]; NULL with
                           -- one wording
  templates      INTEGER,  -- templates of personas
  items          INTEGER,  -- items
  seed           INTEGER   -- seed of bootstrap and permutations
);

CREATE TABLE primed_changes (  -- What priming a value does to the answers on every value.
  run        VARCHAR,  -- run of kind hearing
  instrument VARCHAR,  -- name of the instrument
  mode       VARCHAR,  -- logprob | voice
  wording    VARCHAR,  -- name of the wording or open question; all = their mean
  "order"    VARCHAR,  -- ascending | descending | both
  part       VARCHAR,  -- rating | held | topic
  primed     VARCHAR,  -- value that the personas prime
  value      VARCHAR,  -- value that is asked about
  change     DOUBLE    -- mean change of its answers, less the mean over all values that are primed
                       -- [rating points; nats per token in mode voice]
);

CREATE TABLE personas (  -- The personas, and the words that they share with the items.
  run      VARCHAR,  -- run of kind hearing
  primed   VARCHAR,  -- value that the persona primes; empty: none
  template INTEGER,  -- 0-based number of the template
  text     VARCHAR,  -- what the model is told it is
  shared   VARCHAR   -- word stems that it shares with the instrument's items, separated by commas
);
