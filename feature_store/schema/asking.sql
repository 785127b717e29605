-- Asking: what an instrument asked, what was answered, and the profile it adds up to.

CREATE TABLE responses (  -- Every answer of a profile run, refused and unparsed ones included.
  run      VARCHAR,   -- run of kind profile
  item     VARCHAR,   -- id of the item
  value    VARCHAR,   -- id of the value it measures; empty where it measures several or the answers
                      -- say it
  context  INTEGER,   -- 0-based number of the prompt context (cluster)
  wording  VARCHAR,   -- name of the wording
  "order"  VARCHAR,   -- ascending (least agreement first, or as the item lists its answers) |
                      -- descending
  seed     BIGINT,    -- seed of the sampling; 0 where nothing is sampled
  steering VARCHAR,   -- what was changed; base = nothing; reference = nothing, after the request
                      -- without opinion (mode voice)
  text     VARCHAR,   -- raw answer, or the most likely one
  logprobs DOUBLE[],  -- log-probability of each answer, in the order of the instrument or the item
                      -- [nats per token]; empty when generated
  rating   DOUBLE,    -- agreement, reverse-keyed items turned round [1 to number of options]; a
                      -- judge's rating of a free text; in mode voice held less reversed, relative
                      -- to a request without opinion [nats per token]; NULL for choices and unless
                      -- parsed
  status   VARCHAR,   -- parsed | refused | unparsed | too-long
  chosen   INTEGER,   -- 0-based number of the answer in the order of the instrument or the item; -1
                      -- unless parsed, and for free texts
  persona  VARCHAR    -- what the model was told it is; empty: nothing
);

CREATE TABLE prompts (  -- The exact text behind every rating and response.
  run     VARCHAR,  -- run of kind labels (its output scores), profile, effects, prediction, plan,
                    -- comparison, kang or neurons
  context INTEGER,  -- 0-based number of the prompt context (cluster)
  item    VARCHAR,  -- id of the item
  wording VARCHAR,  -- name of the wording
  "order" VARCHAR,  -- ascending | descending: order of the options
  value   VARCHAR,  -- id of the value the item measures
  prompt  VARCHAR   -- text as the model received it, before special tokens
);

CREATE TABLE profiles (  -- Value profiles, raw and centred.
  run      VARCHAR,  -- run of kind profile
  steering VARCHAR,  -- what was changed; base = nothing
  value    VARCHAR,  -- id of the value
  mean     DOUBLE,   -- mean over items and clusters [rating points; nats per token in mode voice
                     -- (held less reversed); for choices the score of what
                     -- was chosen, -1 to 1; what the instrument's page says, where it scores
                     -- itself]
  low      DOUBLE, high DOUBLE,  -- @interval over clusters [as the mean]
  n        INTEGER,  -- contexts (open questions) behind the interval, or groups of items where one context was asked
                     -- [clusters]
  parsed   INTEGER,  -- answers in the mean [answers]
  missing  INTEGER,  -- answers refused or unread [answers]
  centred  BOOLEAN   -- whether the mean rating of all items, or what choosing by lot gives, was
                     -- subtracted
);

CREATE TABLE quality (
  -- What stands beside every profile: missing answers, biases and reliability.
  run      VARCHAR,  -- run of kind profile
  steering VARCHAR,  -- what was changed; base = nothing
  metric   VARCHAR,  -- unparsed | refused | too-long | position | acquiescence | split-half |
                     -- split-half-change | length | test-retest | alternate-form
  value    DOUBLE,   -- shares [0 to 1]; position and acquiescence
                     -- [rating points, or share above chance]; reliabilities and length
                     -- [correlation, -1 to 1]
  low      DOUBLE, high DOUBLE,  -- @interval [as the value]
  n        INTEGER   -- answers (shares), clusters (biases), splits or items (reliabilities) behind
                     -- it
);

CREATE TABLE topics (
  -- How likely talk about each value is as the model's own words, whichever stance it takes (mode
  -- voice): what a profile must not be mistaken for.
  run      VARCHAR,  -- run of kind profile
  steering VARCHAR,  -- what was changed; base = nothing
  value    VARCHAR,  -- id of the value
  mean     DOUBLE,   -- mean log-probability of statements and their reversals, less the same after
                     -- a request without opinion [nats per token]
  low      DOUBLE, high DOUBLE,  -- @interval over open questions, or items where one was asked
  n        INTEGER   -- open questions, or items where one was asked [clusters]
);

CREATE TABLE reversals (  -- The statements that mode voice scores, beside their reversals.
  run      VARCHAR,  -- run of kind profile
  item     VARCHAR,  -- id of the item
  value    VARCHAR,  -- id of the value it measures
  text     VARCHAR,  -- the statement
  reversal VARCHAR,  -- the same with the stance turned round
  source   VARCHAR   -- given (it stood with the item) | rule (written by a rule)
);
