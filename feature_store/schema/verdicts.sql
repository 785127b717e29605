-- What people say of features: verdicts, each of them kept, none overwritten.

CREATE TABLE verdicts (
  -- What a person said of a feature. Of a labeller's verdicts on a feature the last one that was not
  -- withdrawn counts. A merge that was killed may leave a verdict in two runs, under the same id.
  run       VARCHAR,    -- run of kind verdicts
  id        VARCHAR,    -- id of the verdict, the same in whichever run it stands
  came_in   VARCHAR,    -- run in which it first stood; `workbench compact` merges runs
  sae       VARCHAR,    -- run of kind sae
  feature   INTEGER,    -- 0-based feature index
  verdict   VARCHAR,    -- accept | reject | change | both | unsure | undo
  value     VARCHAR,    -- value that the feature carries, or that is rejected; empty: none is named
  polarity  INTEGER,    -- +1: held, -1: rejected, 0: both poles (the topic), or no value
  labels    VARCHAR,    -- run of labels whose label it speaks of; empty: of none
  method    VARCHAR,    -- labeler of that run; empty: of none
  labeller  VARCHAR,    -- name of the person
  desk      VARCHAR,    -- what tells two people of the same name apart
  note      VARCHAR,    -- why, in their words
  given     TIMESTAMP,  -- when [UTC]
  withdraws VARCHAR     -- id of the verdict that an undo withdraws; empty otherwise
);
