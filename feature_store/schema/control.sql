-- Control: whether a value is controlled in open answers, and what it costs.

CREATE TABLE control_answers (
  -- Every answer before and after control, with its verdicts, unread ones included.
  run           VARCHAR,  -- run of kind control
  steering      VARCHAR,  -- base, or what was controlled
  kind          VARCHAR,  -- dilemma | choice (multiple-choice benchmark)
  item          VARCHAR,  -- id of the dilemma or benchmark item
  value         VARCHAR,  -- value of the dilemma; empty for benchmark items
  question      VARCHAR,  -- text as it was asked
  gate          DOUBLE,   -- score of the gate's detector [0 to 1]; NaN without a gate
  open          BOOLEAN,  -- whether this prompt was steered
  answer        VARCHAR,  -- what the model wrote, or the option it preferred
  choice        VARCHAR,  -- verdict on the value: Yes | No | Unclear; for benchmark items the right
                          -- option; empty unless parsed
  fluent        VARCHAR,  -- verdict on the language: Yes | No; empty unless parsed
  status        VARCHAR,  -- parsed | refused | unparsed | too-long: the verdict on the value
  fluent_status VARCHAR,  -- parsed | refused | unparsed | too-long: the verdict on the language;
                          -- empty for benchmark items
  judge         VARCHAR   -- name of the judge; empty for benchmark items
);

CREATE TABLE control (
  -- Control success, fluency and benchmark accuracy, before, after, and their paired change.
  run      VARCHAR,  -- run of kind control
  steering VARCHAR,  -- base, what was controlled, or change (after less before, paired by item)
  measure  VARCHAR,  -- csr (control success) | fr (fluency) | accuracy (multiple choice)
  value    VARCHAR,  -- id of the controlled value
  mean     DOUBLE,   -- mean over items [0 to 1; a change -1 to 1]; NaN where nothing was parsed
  low      DOUBLE, high DOUBLE,  -- @interval over items
  n        INTEGER,  -- items with a parsed verdict [items]
  missing  INTEGER   -- items whose verdict was refused or could not be read [items]
);
