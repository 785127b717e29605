-- What others wrote of the same features: explanations in words, figures, contexts.

CREATE TABLE borrowed_explanations (
  -- What a feature fires on, in words of others; beside the labels, never in place of them.
  run     VARCHAR,  -- run of kind borrowed
  feature INTEGER,  -- 0-based feature index
  rank    INTEGER,  -- 0 = the first of the feature in the source
  text    VARCHAR,  -- the explanation as its author wrote it: a stranger's text
  method  VARCHAR,  -- how it was made, by the source's name of the method; empty: not said
  model   VARCHAR,  -- language model that wrote it; empty: not said
  author  VARCHAR,  -- who signed it, by the source's id; empty: not said
  notes   VARCHAR,  -- what the author added; empty: nothing
  created VARCHAR   -- when it was written, as the source says it; empty: not said
);

CREATE TABLE borrowed_features (  -- Figures of features, as others measured them on their texts.
  run               VARCHAR,    -- run of kind borrowed
  feature           INTEGER,    -- 0-based feature index
  density           DOUBLE,     -- share of tokens on which it is active [0 to 1]
  max_activation    DOUBLE,     -- largest activation seen [activation units]
  promoted          VARCHAR[],  -- tokens that it promotes, most first
  promoted_logits   DOUBLE[],   -- change of their logits [logits, by the source's lens]
  suppressed        VARCHAR[],  -- tokens that it suppresses, most first
  suppressed_logits DOUBLE[],   -- change of their logits [logits, by the source's lens]
  activation_bins   DOUBLE[],   -- middles of the bins of its activations [activation units]
  activation_counts DOUBLE[],   -- tokens in each bin, or their share, as the source counts
  logit_bins        DOUBLE[],   -- middles of the bins of its logits [logits, by the source's lens]
  logit_counts      DOUBLE[]    -- tokens of the vocabulary in each bin
);

CREATE TABLE borrowed_contexts (  -- Contexts of features, from the texts of others.
  run         VARCHAR,    -- run of kind borrowed
  feature     INTEGER,    -- 0-based feature index
  rank        INTEGER,    -- 0 = the first of the feature in the source
  activation  DOUBLE,     -- largest activation in the context [activation units]
  tokens      VARCHAR[],  -- tokens of the context
  activations DOUBLE[],   -- activation on each of them [activation units]
  peak        INTEGER,    -- 0-based index of the largest activation in tokens
  bin_low     DOUBLE,     -- lower edge of the bin it was drawn from [activation units]; NULL: it is
                          -- one of the strongest
  bin_high    DOUBLE,     -- upper edge of that bin [activation units]; NULL: one of the strongest
  bin_share   DOUBLE      -- share of the active tokens in that bin [0 to 1]; NULL: one of the
                          -- strongest
);
