-- AdAEM: a search for questions that drive the members of a population apart.

CREATE TABLE adaem_members (  -- Who was to be told apart.
  run        VARCHAR,  -- run of kind adaem
  member     VARCHAR,  -- name in the population
  kind       VARCHAR,  -- base, steered, primed or model
  respondent VARCHAR,  -- model, revision and steering that answer
  steering   VARCHAR,  -- what is done to the residual; base: nothing
  persona    VARCHAR   -- what it is told before every question; empty: nothing
);

CREATE TABLE adaem_questions (
  -- Every question that was tried, with its score in the search and, where it was asked anew, from
  -- fresh opinions.
  run        VARCHAR,  -- run of kind adaem
  question   INTEGER,  -- 0-based number; seeds come first
  topic      INTEGER,  -- 0-based number of the topic
  parent     INTEGER,  -- question that it was rewritten from; -1 for a seed
  pull       INTEGER,  -- 0-based number of the pull; -1 for a seed
  text       VARCHAR,  -- the question
  writer     VARCHAR,  -- who wrote it
  score      DOUBLE,   -- S from the kept opinions of the search [nats]; NULL where a member or the
                       -- question was not read
  separation DOUBLE,   -- generalised Jensen-Shannon divergence of the members, the same opinions
                       -- [nats]
  distance   DOUBLE,   -- distance of the question from the members, beta included
                       -- [nats; a share for total variation]
  accepted   BOOLEAN,  -- whether it became the best question of its topic
  found      BOOLEAN,  -- whether it is one of the new instrument
  fresh      DOUBLE,   -- separation from fresh opinions [nats]; NULL where it was not asked anew
  chance     DOUBLE,   -- mean separation of the same fresh opinions dealt out at random [nats]
  classifier VARCHAR   -- who read the values
);

CREATE TABLE adaem_opinions (  -- Every opinion, its values, and the criteria of the response step.
  run                 VARCHAR,    -- run of kind adaem
  stage               VARCHAR,    -- search or fresh
  question            INTEGER,    -- number of the question
  member              VARCHAR,    -- who gave it
  text                VARCHAR,    -- what it said
  status              VARCHAR,    -- parsed, refused, unparsed or too-long; only parsed ones count
  seed                BIGINT,     -- seed of the sampling
  held                VARCHAR[],  -- values that it holds
  conformity          DOUBLE,     -- the member's own p of what it holds [0 to 1]; NULL for fresh
                                  -- opinions, as the next four
  coherence           DOUBLE,     -- how well it goes with the question [0 to 1]; NULL where that is
                                  -- not known
  value_difference    DOUBLE,     -- total variation to the other members' values [0 to 1]
  semantic_difference DOUBLE,     -- 1 less the mean cosine of TF-IDF vectors to the other members'
                                  -- opinions [0 to 1]
  kept                BOOLEAN,    -- whether the score was taken from it
  classifier          VARCHAR,    -- who read its values
  coherence_by        VARCHAR     -- what stood in for coherence
);

CREATE TABLE adaem_pulls (  -- What the bandit chose, and what it brought.
  run      VARCHAR,  -- run of kind adaem
  pull     INTEGER,  -- 0-based number
  topic    INTEGER,  -- topic that was pulled
  quality  DOUBLE,   -- Q before the pull [nats]
  bonus    DOUBLE,   -- width of the confidence bound before it [nats]
  count    INTEGER,  -- C before it [pulls, the seed counted as one]
  reward   DOUBLE,   -- best S of the new questions [nats]; NULL without any
  tried    INTEGER,  -- new questions that were asked [questions]
  accepted INTEGER   -- question that became the best of its topic; -1: none
);

CREATE TABLE adaem_separation (
  -- How far apart sets of questions drive the population, from fresh opinions, beside chance and
  -- the seeds.
  run         VARCHAR,  -- run of kind adaem
  questions   VARCHAR,  -- found: the new instrument; seed: the seed questions; best-seed: as many
                        -- seeds as found, those that scored best in the search
  separation  DOUBLE,   -- mean generalised Jensen-Shannon divergence [nats]
  low         DOUBLE, high DOUBLE,  -- @interval over questions
  n           INTEGER,  -- questions (clusters) [questions]
  chance      DOUBLE,   -- mean separation of the opinions dealt out at random [nats]
  searched    DOUBLE,   -- mean separation that the search believed, from kept opinions [nats]
  ratio       DOUBLE,   -- separation over that of the seeds; NULL for the seeds themselves
  ratio_low   DOUBLE, ratio_high DOUBLE,  -- @interval over questions
  beyond      DOUBLE,   -- the same ratio with chance taken off both; NULL where nothing is left
  beyond_low  DOUBLE, beyond_high DOUBLE  -- @interval
);

CREATE TABLE adaem_ratings (
  -- Who holds which value most: TrueSkill, win rate and share over fresh opinions on the found
  -- questions.
  run        VARCHAR,  -- run of kind adaem
  member     VARCHAR,  -- name in the population
  value      VARCHAR,  -- value
  mu         DOUBLE,   -- TrueSkill mean [points; 25 is the start]
  sigma      DOUBLE,   -- its posterior standard deviation [points]
  low        DOUBLE,   -- mu less 1.96 sigma [points]
  high       DOUBLE,   -- mu and 1.96 sigma [points]
  win_rate   DOUBLE,   -- share of matches won against the others, a draw half [0 to 1]
  win_low    DOUBLE, win_high DOUBLE,  -- @interval over questions
  share      DOUBLE,   -- opinions that hold the value [0 to 1]
  share_low  DOUBLE, share_high DOUBLE,  -- @interval over questions
  n          INTEGER,  -- questions (clusters) [questions]
  matches    INTEGER,  -- matches in which every member had an answer [matches]
  missing    INTEGER,  -- opinions of the member that did not count [opinions]
  classifier VARCHAR   -- who read the values
);
