-- Runs: what was made, when, from what and with which settings.

CREATE TABLE runs (  -- One row per finished run.
  run         VARCHAR,    -- kind-digest of kind, configuration and inputs
  kind        VARCHAR,    -- what was made: sae | labels | profile | effects | graph | probes |
                          -- control | prediction | plan | comparison | counterfactual | couple |
                          -- kang | neurons | scenarios | review | decisions | contrast | ordinal |
                          -- dilemmas | images | adaem | transfer | hearing | survey
  status      VARCHAR,    -- finished
  created     TIMESTAMP,  -- start [UTC]
  seconds     DOUBLE,     -- working time, interruptions not counted [s]
  seed        BIGINT,     -- seed from which every random choice derives
  config      JSON,       -- flags and job file merged [JSON]
  inputs      JSON,       -- role -> run id or checksum [JSON]
  summary     JSON,       -- the few figures of the run [JSON]
  environment JSON        -- package and code versions, device, platform [JSON]
);
