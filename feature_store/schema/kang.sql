-- Kang et al.: a causal graph over the answers of roles that a model plays.

CREATE TABLE kang_roles (
  -- Roles that the model played; on the organism, contexts stand in for them.
  run   VARCHAR,  -- run of kind kang
  role  INTEGER,  -- 0-based number of the role (cluster); -1 = no role
  split VARCHAR,  -- train | test: which items it was asked
  text  VARCHAR   -- what stands before the question
);

CREATE TABLE kang_answers (
  -- Every answer of every role under every steering, refused and unparsed ones included.
  run       VARCHAR,  -- run of kind kang
  split     VARCHAR,  -- train | test
  role      INTEGER,  -- 0-based number of the role (cluster); -1 = no role
  kind      VARCHAR,  -- none | feature | random-direction | held | rejected (the last two: told
                      -- outright to value, or not to)
  feature   INTEGER,  -- 0-based feature index, number of a random direction, -1 otherwise
  item      VARCHAR,  -- id of the item
  value     VARCHAR,  -- id of the value it measures
  agreement INTEGER,  -- +1: yes speaks for the value, -1: against it
  score     DOUBLE,   -- agreement times yes (1), no (-1), unsure (0), or between by log-probability
                      -- [-1 to 1]; NULL unless parsed
  status    VARCHAR,  -- parsed | refused | unparsed | too-long
  reader    VARCHAR,  -- rule | logprob | name of the judge; empty where nobody could read it
  text      VARCHAR   -- raw answer, or the most likely option or expected rating
);

CREATE TABLE kang_scores (
  -- Score of every value for every role and steering: what the graph is found in.
  run     VARCHAR,  -- run of kind kang
  split   VARCHAR,  -- train | test
  role    INTEGER,  -- 0-based number of the role (cluster); -1 = no role
  kind    VARCHAR,  -- none | feature | random-direction | held | rejected
  feature INTEGER,  -- 0-based feature index, number of a random direction, -1 otherwise
  value   VARCHAR,  -- id of the value
  score   DOUBLE,   -- mean over the parsed answers to its items [-1 to 1]; NULL without any
  parsed  INTEGER,  -- answers in the mean [answers]
  missing INTEGER   -- answers refused or unread [answers]
);

CREATE TABLE kang_edges (
  -- What PC makes of the training scores, every ordered pair: a hypothesis, found without regard to
  -- what was steered.
  run               VARCHAR,  -- run of kind kang
  source            VARCHAR,  -- cause
  target            VARCHAR,  -- effect
  present           BOOLEAN,  -- whether PC draws it; both directions where PC does not tell
  oriented          BOOLEAN,  -- whether PC tells the direction
  reduced           BOOLEAN,  -- whether the transitive reduction keeps it
  descends          BOOLEAN,  -- whether the target descends from the source: an expected side
                              -- effect
  frequency         DOUBLE,   -- share of bootstrap replicates (roles resampled) that draw it
                              -- [0 to 1]
  descent_frequency DOUBLE    -- share of them in which the target descends from the source [0 to 1]
);

CREATE TABLE kang_side_effects (
  -- Where a value changed, how often its descendants in a graph and the other values changed too;
  -- test roles.
  run        VARCHAR,  -- run of kind kang
  graph      VARCHAR,  -- pc | planted (on the organism)
  "by"       VARCHAR,  -- role (against no role) | feature | random-direction (against the same role
                       -- unsteered)
  expected   DOUBLE,   -- change frequency of descendants [0 to 1]
  unexpected DOUBLE,   -- change frequency of other values [0 to 1]
  gap        DOUBLE,   -- expected less unexpected [-1 to 1]
  low        DOUBLE, high DOUBLE,  -- @interval over roles
  null_low   DOUBLE, null_high DOUBLE,  -- @quantiles of the gap when the graph's nodes are permuted
  p          DOUBLE,   -- one-sided p of the gap under permuted nodes [0 to 1]
  "rows"     INTEGER,  -- rows in which some value changed [rows]
  clusters   INTEGER   -- roles [clusters]
);

CREATE TABLE kang_counts (
  -- How many roles each steering moved up, not, or down, and whether test roles repeat training
  -- roles.
  run        VARCHAR,  -- run of kind kang
  kind       VARCHAR,  -- feature | random-direction
  feature    INTEGER,  -- 0-based feature index, or number of a random direction
  value      VARCHAR,  -- id of the value
  train_up   INTEGER,  -- training roles whose score rose [roles]
  train_same INTEGER,  -- training roles whose score stayed [roles]
  train_down INTEGER,  -- training roles whose score fell [roles]
  test_up    INTEGER,  -- test roles whose score rose [roles]
  test_same  INTEGER,  -- test roles whose score stayed [roles]
  test_down  INTEGER,  -- test roles whose score fell [roles]
  cosine     DOUBLE    -- cosine of the two count vectors [0 to 1]; NULL where one is empty
);

CREATE TABLE kang_control (
  -- Shares of test roles moved by the best feature of a value (chosen on training roles), by the
  -- best random direction, and by a prompt that says outright what to value.
  run       VARCHAR,  -- run of kind kang
  value     VARCHAR,  -- id of the value
  direction INTEGER,  -- +1: meant to raise the value, -1: to lower it
  "by"      VARCHAR,  -- feature | random-direction | prompt
  feature   INTEGER,  -- 0-based feature index, or number of a random direction; -1 for the prompt
  up        DOUBLE,   -- share of roles whose score rose [0 to 1]
  same      DOUBLE,   -- share whose score stayed [0 to 1]
  down      DOUBLE,   -- share whose score fell [0 to 1]
  up_low    DOUBLE, up_high DOUBLE,  -- @interval(up) after Wilson
  n         INTEGER   -- test roles with both scores [roles]
);
