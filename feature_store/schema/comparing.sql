-- Comparing: how the profiles of several subjects differ, and whether instruments agree about them.

CREATE TABLE subjects (  -- Who was compared on which instrument, and where the answers are.
  run        VARCHAR,  -- run of kind contrast
  instrument VARCHAR,  -- name of the instrument
  subject    VARCHAR,  -- as it was named: base, power+, features with a strength, a model
  profile    VARCHAR,  -- run of kind profile that holds the answers
  steering   VARCHAR   -- which of its profiles is the subject's
);

CREATE TABLE contrasts (  -- Difference of two subjects' centred profiles, value by value.
  run        VARCHAR,  -- run of kind contrast
  instrument VARCHAR,  -- name of the instrument
  reference  VARCHAR,  -- subject that is subtracted
  subject    VARCHAR,  -- subject it is subtracted from
  value      VARCHAR,  -- id of the value
  before     DOUBLE,   -- centred mean of the reference [rating points, or score of what was chosen]
  difference DOUBLE,   -- subject less reference [as before]
  low        DOUBLE, high DOUBLE,  -- @interval over clusters [as before]
  p          DOUBLE,   -- two-sided p of no difference [0 to 1]
  q          DOUBLE,   -- p after Benjamini-Hochberg over the instrument's values and subjects
                       -- [0 to 1]
  n          INTEGER,  -- pairs of clusters, or clusters of the smaller side [clusters]
  paired     BOOLEAN   -- whether both were asked the same questions
);

CREATE TABLE circle_fits (
  -- A subject's differences laid over the motivational circle: a + b cos(theta - phi).
  run        VARCHAR,  -- run of kind contrast
  instrument VARCHAR,  -- name of the instrument
  subject    VARCHAR,  -- subject whose difference from the reference is fitted
  towards    VARCHAR,  -- id of the value nearest to phi
  phi        DOUBLE,   -- angle towards which the profile moved [radians]
  b          DOUBLE,   -- how far it moved that way [as contrasts.difference]
  a          DOUBLE,   -- change common to all values [as contrasts.difference]
  r2         DOUBLE,   -- share of the differences' variance that the circle explains [0 to 1]
  p          DOUBLE,   -- permutation p of r2, values renamed [0 to 1]
  n          INTEGER   -- values fitted [values]
);

CREATE TABLE mtmm (
  -- The multitrait-multimethod matrix: correlations over subjects of every value on every
  -- instrument.
  run              VARCHAR,  -- run of kind contrast
  instrument       VARCHAR,  -- name of the instrument
  value            VARCHAR,  -- id of the value
  other_instrument VARCHAR,  -- name of the other instrument
  other_value      VARCHAR,  -- id of the other value
  r                DOUBLE,   -- correlation over subjects [-1 to 1]; NULL where one does not vary
  n                INTEGER   -- subjects
);

CREATE TABLE validity (  -- How far two instruments agree about the same subjects.
  run              VARCHAR,  -- run of kind contrast
  instrument       VARCHAR,  -- name of the instrument
  other_instrument VARCHAR,  -- name of the other instrument
  metric           VARCHAR,  -- convergent | discriminant | criterion | profile
  value            DOUBLE,   -- mean correlation [-1 to 1]; criterion: share of values [0 to 1]
  low              DOUBLE, high DOUBLE,  -- @interval over subjects [as the value]
  p                DOUBLE,   -- permutation p of a value as large [0 to 1]; NULL where none is
                             -- defined
  n                INTEGER   -- subjects
);
