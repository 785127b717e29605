-- Ordinal regression: posteriors of how much each condition holds each value.

CREATE TABLE ordinal_thetas (
  -- How much each condition (model, persona, steering) holds each value: posterior of the Bayesian
  -- ordinal regression.
  run       VARCHAR,  -- run of kind ordinal
  condition VARCHAR,  -- what tells the condition from the others: model, persona, steering
  value     VARCHAR,  -- id of the value
  centred   BOOLEAN,  -- whether the condition's mean over its values was subtracted
  mean      DOUBLE,   -- posterior mean [latent SD: noise of one answer = 1]
  low       DOUBLE, high DOUBLE,  -- @interval, central in the posterior
  below     DOUBLE,   -- posterior probability of being less than 0 [0 to 1]
  r_hat     DOUBLE,   -- rank-normalised split R-hat; above 1.01 the chains disagree
  ess       DOUBLE,   -- effective sample size, the smaller one of bulk and tails [draws]
  n         INTEGER,  -- answers behind it [answers]
  missing   INTEGER   -- responses of the value that could not be read [responses]
);

CREATE TABLE ordinal_contrasts (
  -- Contrasts of a Bayesian ordinal regression: of higher-order values, in a condition and between
  -- two; of each value between two.
  run       VARCHAR,  -- run of kind ordinal
  contrast  VARCHAR,  -- higher-order values, the mean of the first less that of the second; or the
                      -- id of a value, centred
  condition VARCHAR,  -- condition
  other     VARCHAR,  -- condition whose contrast is subtracted; empty: none
  mean      DOUBLE,   -- posterior mean [latent SD]
  low       DOUBLE, high DOUBLE,  -- @interval, central in the posterior
  below     DOUBLE,   -- posterior probability of being less than 0 [0 to 1]
  r_hat     DOUBLE,   -- rank-normalised split R-hat; above 1.01 the chains disagree
  ess       DOUBLE,   -- effective sample size, the smaller one of bulk and tails [draws]
  n         INTEGER   -- answers behind it [answers]
);

CREATE TABLE ordinal_parameters (
  -- Thresholds between the options, and spread of the items, of a Bayesian ordinal regression.
  run       VARCHAR,  -- run of kind ordinal
  parameter VARCHAR,  -- tau_k: between options k and k + 1; sigma_u: SD of the items
  mean      DOUBLE,   -- posterior mean [latent SD]
  low       DOUBLE, high DOUBLE,  -- @interval, central in the posterior
  below     DOUBLE,   -- posterior probability of being less than 0 [0 to 1]
  r_hat     DOUBLE,   -- rank-normalised split R-hat; above 1.01 the chains disagree
  ess       DOUBLE,   -- effective sample size, the smaller one of bulk and tails [draws]
  n         INTEGER   -- answers of all conditions [answers]
);

CREATE TABLE ordinal_circle (
  -- Schwartz's circle in the answers of each condition: over contexts taken as respondents, and in
  -- the change from the first condition.
  run       VARCHAR,  -- run of kind ordinal
  condition VARCHAR,  -- condition
  other     VARCHAR,  -- condition from which the change is counted; empty: none
  measure   VARCHAR,  -- congruence: Procrustes correlation of the values' plane with the circle |
                      -- agreement: share of the variance of their correlations that the cosine of
                      -- their angles explains | change: share of the variance of the change of
                      -- theta that one direction of the circle explains
  estimate  DOUBLE,   -- the measure [0 to 1]; NaN where a value does not vary
  "null"    DOUBLE,   -- its mean with the values' places on the circle permuted [0 to 1]
  p         DOUBLE,   -- one-sided permutation p [0 to 1]
  n         INTEGER,  -- contexts, or values for change
  phi       DOUBLE,   -- angle towards which the profile moved [radians, 0 to 2 pi]; NaN but for
                      -- change
  b         DOUBLE    -- half the difference between that angle and its opposite [latent SD]; NaN
                      -- but for change
);
