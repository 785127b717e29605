-- An SAE's dictionary: its training, its features, and what speaks for their labels.

CREATE TABLE training (  -- What an SAE's training and held-out evaluation reported, in long form.
  run    VARCHAR,  -- run of kind sae
  step   BIGINT,   -- optimiser steps done
  metric VARCHAR,  -- loss, fvu, l0, dead_share, ...
  value  DOUBLE    -- value of the metric [unit of the metric; shares are 0 to 1, losses nats]
);

CREATE TABLE features (  -- One row per SAE feature, with statistics over the harvested tokens.
  run             VARCHAR,  -- run of kind sae
  feature         INTEGER,  -- 0-based index of the decoder row
  n_active        BIGINT,   -- tokens on which the feature is active [tokens]
  density         DOUBLE,   -- share of tokens on which it is active [0 to 1]
  max_activation  FLOAT,    -- largest activation seen [activation units]
  mean_activation FLOAT,    -- mean over the tokens on which it is active [activation units]
  decoder_norm    FLOAT,    -- length of the decoder row [residual units]
  x               FLOAT,    -- first map coordinate of the decoder row [arbitrary]; NULL for dead
                            -- features
  y               FLOAT     -- second map coordinate [arbitrary]; NULL for dead features
);

CREATE TABLE contexts (  -- Top-activating contexts of every feature, one per document.
  run         VARCHAR,    -- run of kind sae
  feature     INTEGER,    -- 0-based feature index
  rank        INTEGER,    -- 0 = strongest
  activation  FLOAT,      -- activation at the peak [activation units]
  document    INTEGER,    -- 0-based number of the text
  position    INTEGER,    -- 0-based token position of the peak in its document [tokens]
  tokens      VARCHAR[],  -- tokens of the window
  activations FLOAT[],    -- activation on each token of the window [activation units]
  peak        INTEGER     -- 0-based index of the peak in tokens
);

CREATE TABLE samples (
  -- Further contexts of every feature, one per document: an even sample of its active tokens, from
  -- all quantiles of its activation.
  run         VARCHAR,    -- run of kind sae; those made before there were samples have none
  feature     INTEGER,    -- 0-based feature index
  draw        INTEGER,    -- 0-based number in the order of a random draw
  quantile    INTEGER,    -- 0-based tenth of the sampled activations; 9 = strongest
  activation  FLOAT,      -- activation at the peak, the token that was drawn [activation units]
  document    INTEGER,    -- 0-based number of the text
  position    INTEGER,    -- 0-based token position of the peak in its document [tokens]
  tokens      VARCHAR[],  -- tokens of the window
  activations FLOAT[],    -- activation on each token of the window [activation units]
  peak        INTEGER     -- 0-based index of the peak in tokens
);

CREATE TABLE activations (
  -- Sparse feature activations over the harvested tokens, sorted by feature.
  run        VARCHAR,  -- run of kind sae
  feature    INTEGER,  -- 0-based feature index
  document   INTEGER,  -- 0-based number of the text
  position   INTEGER,  -- 0-based token position in the document [tokens]
  activation FLOAT     -- activation [activation units, > 0]
);

CREATE TABLE histograms (  -- Histogram of each feature's nonzero activations.
  run     VARCHAR,  -- run of kind sae
  feature INTEGER,  -- 0-based feature index
  bin     INTEGER,  -- 0-based bin
  low     FLOAT,    -- lower edge [activation units]
  high    FLOAT,    -- upper edge [activation units]
  count   BIGINT    -- tokens in the bin [tokens]
);

CREATE TABLE token_logits (
  -- The tokens that each feature promotes and suppresses most, by its decoder row alone.
  run     VARCHAR,  -- run of kind descriptions
  feature INTEGER,  -- 0-based feature index
  side    VARCHAR,  -- promoted | suppressed
  rank    INTEGER,  -- 0 = most
  id      INTEGER,  -- id of the token
  token   VARCHAR,  -- the token as people read it
  logit   FLOAT     -- change of its logit, less that of the average token [logits per activation
                    -- unit, at a last residual of root mean square 1]
);

CREATE TABLE logit_shapes (  -- How each feature changes the logits of all tokens.
  run      VARCHAR,   -- run of kind descriptions
  feature  INTEGER,   -- 0-based feature index
  sd       FLOAT,     -- standard deviation over the tokens; their mean is 0 [as token_logits.logit]
  skewness FLOAT,     -- third standardised moment [0 = symmetric]; above 0: a few are promoted
  kurtosis FLOAT,     -- fourth standardised moment [3 = normal]; large: few tokens, strongly
  smallest FLOAT,     -- change of the most suppressed token [as token_logits.logit]
  largest  FLOAT,     -- change of the most promoted token [as token_logits.logit]
  bins     INTEGER[]  -- tokens in bins of equal width from smallest to largest [tokens]
);

CREATE TABLE decoder_neighbours (
  -- The features whose decoder rows point the same way, the nearest first.
  run       VARCHAR,  -- run of kind descriptions
  feature   INTEGER,  -- 0-based feature index
  rank      INTEGER,  -- 0 = nearest
  neighbour INTEGER,  -- 0-based index of the other feature
  cosine    FLOAT,    -- cosine of the two decoder rows [-1 to 1]
  null_high FLOAT     -- 97.5 % quantile of the cosine at this rank among as many random rows [-1 to
                      -- 1]
);

CREATE TABLE coactivations (
  -- The features that are active on the same tokens, by two measures.
  run      VARCHAR,  -- run of kind descriptions
  feature  INTEGER,  -- 0-based feature index
  measure  VARCHAR,  -- what the rank is by: jaccard | pmi
  rank     INTEGER,  -- 0 = largest
  partner  INTEGER,  -- 0-based index of the other feature
  together BIGINT,   -- tokens on which both are active [tokens]
  jaccard  FLOAT,    -- those over the tokens on which either is active [0 to 1]
  pmi      FLOAT     -- pointwise mutual information [nats; 0 = as often as by chance]
);

CREATE TABLE labels (
  -- What speaks for a feature carrying a value; several rows a feature compete.
  run      VARCHAR,  -- run of kind labels
  feature  INTEGER,  -- 0-based feature index
  value    VARCHAR,  -- id of the value
  polarity INTEGER,  -- +1: active where the value is held or spoken of, -1: where it is rejected
  part     VARCHAR,  -- pole: one side of the value, the other was looked at | topic: spoken of
  effect   DOUBLE,   -- standardised mean difference within contexts [SD]; of a label from the
                     -- strongest contexts their mean score against all features' [SD]
  low      DOUBLE, high DOUBLE,  -- @interval
  p        DOUBLE,   -- p of the labeler's own test [0 to 1]
  q        DOUBLE,   -- p after Benjamini-Hochberg over all that it tests [0 to 1]
  score    DOUBLE,   -- held-out area under the ROC curve within contexts [0 to 1]; NULL, as gain
                     -- and interval, where the labeler reads no marked texts
  gain     DOUBLE,   -- held-out share of activation on texts with the value, above its base rate
                     -- [at most 1; 0 = chance]
  n        INTEGER,  -- texts that carry the value, or contexts that were read [texts]
  method   VARCHAR,  -- name of the labeler
  accepted BOOLEAN,  -- whether the labeler's thresholds are met
  evidence VARCHAR   -- thresholds, counts, runner-up [JSON]
);

CREATE TABLE explanations (
  -- What a language model says of a feature from its contexts, an answer a row.
  run         VARCHAR,  -- run of kind labels
  feature     INTEGER,  -- 0-based feature index
  part        INTEGER,  -- 0-based part of the feature's contexts that the answer is about
  explanation VARCHAR,  -- the explanation, without markup; empty unless status is parsed
  value       VARCHAR,  -- id of the value it names; empty: none
  side        VARCHAR,  -- held | rejected | topic; empty where no value is named
  status      VARCHAR,  -- parsed | refused | unparsed | too-long
  answer      VARCHAR,  -- the whole answer, as it came; empty where none came
  author      VARCHAR,  -- name of the language model
  prompts     VARCHAR   -- version of the prompts
);

CREATE TABLE value_units (
  -- Groups of features, and directions of the residual, that a value may be steered by.
  run      VARCHAR,  -- run of kind labels
  unit     VARCHAR,  -- group | direction
  value    VARCHAR,  -- id of the value
  polarity INTEGER,  -- +1: of texts that hold it or speak of it, -1: of those that reject it
  part     VARCHAR,  -- pole: one side of the value against the other | topic: spoken of or not
  features INTEGER,  -- features of a group; 0 of a direction
  score    DOUBLE,   -- held-out area under the ROC curve within contexts [0.5 = chance]: of a
                     -- topic texts that speak of it against the others; of a pole pairs of the
                     -- value against other pairs, by held less rejected, or, without pairs, held
                     -- against rejected texts, less the same of other values' poles, plus 0.5
  low      DOUBLE, high DOUBLE,  -- @interval
  p        DOUBLE,   -- one-sided p of chance [0 to 1]
  q        DOUBLE,   -- p after Benjamini-Hochberg over the groups, or the directions [0 to 1]
  n        INTEGER,  -- held-out texts that carry it [texts]
  accepted BOOLEAN   -- whether q is below 0.05
);

CREATE TABLE group_features (  -- The features of every group.
  run      VARCHAR,  -- run of kind labels
  value    VARCHAR,  -- id of the value
  polarity INTEGER,  -- of the group: +1 or -1
  part     VARCHAR,  -- pole | topic
  feature  INTEGER,  -- 0-based feature index
  weight   DOUBLE    -- its weight; those of a group have length 1 [activation SD]
);

CREATE TABLE output_scores (
  -- How much a light steering along an accepted feature raises the answers of its value, in
  -- contexts of its own.
  run       VARCHAR,  -- run of kind labels
  feature   INTEGER,  -- 0-based feature index
  value     VARCHAR,  -- id of the value it is labelled with
  polarity  INTEGER,  -- polarity of the label, by which the steering is turned: +1 or -1
  output    DOUBLE,   -- output score: change of the value's rating [rating points]; NULL where the
                      -- model gave NaN
  low       DOUBLE, high DOUBLE,  -- @interval over contexts
  beside    DOUBLE,   -- root mean square of the other values' changes [rating points]
  null_high DOUBLE,   -- 97.5 % quantile of the size of the value's change under random directions
                      -- of the same length [rating points]
  n         INTEGER,  -- contexts, none of them asked by a sweep of the same seed [clusters]
  dose      DOUBLE,   -- strength of the steering [share of the median residual norm]
  seed      BIGINT    -- seed of contexts, random directions and bootstrap
);
