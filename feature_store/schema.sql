-- Every relation of the feature store, with a unit on every column.
--
-- A job writes each relation as <relation>.parquet in its run folder, with these columns and types; the store
-- shows the finished runs' files as one view under the same name. `run` is the id of the run that wrote the row.

CREATE TABLE runs (run VARCHAR, kind VARCHAR, status VARCHAR, created TIMESTAMP, seconds DOUBLE, seed BIGINT, config JSON, inputs JSON, summary JSON, environment JSON);
COMMENT ON TABLE runs IS 'One row per finished run.';
COMMENT ON COLUMN runs.run IS 'kind-digest of kind, configuration and inputs';
COMMENT ON COLUMN runs.kind IS 'sae | labels | profile | effects | graph | probes | control';
COMMENT ON COLUMN runs.status IS 'finished';
COMMENT ON COLUMN runs.created IS 'start [UTC]';
COMMENT ON COLUMN runs.seconds IS 'working time, interruptions not counted [s]';
COMMENT ON COLUMN runs.seed IS 'seed from which every random choice derives';
COMMENT ON COLUMN runs.config IS 'flags and job file merged [JSON]';
COMMENT ON COLUMN runs.inputs IS 'role -> run id or checksum [JSON]';
COMMENT ON COLUMN runs.summary IS 'the few figures of the run [JSON]';
COMMENT ON COLUMN runs.environment IS 'package and code versions, device, platform [JSON]';

CREATE TABLE training (run VARCHAR, step BIGINT, metric VARCHAR, value DOUBLE);
COMMENT ON TABLE training IS 'What an SAE''s training and held-out evaluation reported, in long form.';
COMMENT ON COLUMN training.run IS 'run of kind sae';
COMMENT ON COLUMN training.step IS 'optimiser steps done';
COMMENT ON COLUMN training.metric IS 'loss, fvu, l0, dead_share, ... (docs/metrics in evaluate.py)';
COMMENT ON COLUMN training.value IS 'value of the metric [unit of the metric; shares are 0 to 1, losses nats]';

CREATE TABLE features (run VARCHAR, feature INTEGER, n_active BIGINT, density DOUBLE, max_activation FLOAT, mean_activation FLOAT, decoder_norm FLOAT, x FLOAT, y FLOAT);
COMMENT ON TABLE features IS 'One row per SAE feature, with statistics over the harvested tokens.';
COMMENT ON COLUMN features.run IS 'run of kind sae';
COMMENT ON COLUMN features.feature IS '0-based index of the decoder row';
COMMENT ON COLUMN features.n_active IS 'tokens on which the feature is active [tokens]';
COMMENT ON COLUMN features.density IS 'share of tokens on which it is active [0 to 1]';
COMMENT ON COLUMN features.max_activation IS 'largest activation seen [activation units]';
COMMENT ON COLUMN features.mean_activation IS 'mean over the tokens on which it is active [activation units]';
COMMENT ON COLUMN features.decoder_norm IS 'length of the decoder row [residual units]';
COMMENT ON COLUMN features.x IS 'first map coordinate of the decoder row [arbitrary]; NULL for dead features';
COMMENT ON COLUMN features.y IS 'second map coordinate [arbitrary]; NULL for dead features';

CREATE TABLE contexts (run VARCHAR, feature INTEGER, rank INTEGER, activation FLOAT, document INTEGER, position INTEGER, tokens VARCHAR[], activations FLOAT[], peak INTEGER);
COMMENT ON TABLE contexts IS 'Top-activating contexts of every feature, one per document.';
COMMENT ON COLUMN contexts.run IS 'run of kind sae';
COMMENT ON COLUMN contexts.feature IS '0-based feature index';
COMMENT ON COLUMN contexts.rank IS '0 = strongest';
COMMENT ON COLUMN contexts.activation IS 'activation at the peak [activation units]';
COMMENT ON COLUMN contexts.document IS '0-based number of the text';
COMMENT ON COLUMN contexts.position IS '0-based token position of the peak in its document [tokens]';
COMMENT ON COLUMN contexts.tokens IS 'tokens of the window';
COMMENT ON COLUMN contexts.activations IS 'activation on each token of the window [activation units]';
COMMENT ON COLUMN contexts.peak IS '0-based index of the peak in tokens';

CREATE TABLE activations (run VARCHAR, feature INTEGER, document INTEGER, position INTEGER, activation FLOAT);
COMMENT ON TABLE activations IS 'Sparse feature activations over the harvested tokens, sorted by feature.';
COMMENT ON COLUMN activations.run IS 'run of kind sae';
COMMENT ON COLUMN activations.feature IS '0-based feature index';
COMMENT ON COLUMN activations.document IS '0-based number of the text';
COMMENT ON COLUMN activations.position IS '0-based token position in the document [tokens]';
COMMENT ON COLUMN activations.activation IS 'activation [activation units, > 0]';

CREATE TABLE histograms (run VARCHAR, feature INTEGER, bin INTEGER, low FLOAT, high FLOAT, count BIGINT);
COMMENT ON TABLE histograms IS 'Histogram of each feature''s nonzero activations.';
COMMENT ON COLUMN histograms.run IS 'run of kind sae';
COMMENT ON COLUMN histograms.feature IS '0-based feature index';
COMMENT ON COLUMN histograms.bin IS '0-based bin';
COMMENT ON COLUMN histograms.low IS 'lower edge [activation units]';
COMMENT ON COLUMN histograms.high IS 'upper edge [activation units]';
COMMENT ON COLUMN histograms.count IS 'tokens in the bin [tokens]';

CREATE TABLE labels (run VARCHAR, feature INTEGER, value VARCHAR, polarity INTEGER, effect DOUBLE, low DOUBLE, high DOUBLE, p DOUBLE, q DOUBLE, score DOUBLE, gain DOUBLE, n INTEGER, method VARCHAR, accepted BOOLEAN, evidence VARCHAR);
COMMENT ON TABLE labels IS 'What speaks for a feature carrying a value; several rows a feature compete.';
COMMENT ON COLUMN labels.run IS 'run of kind labels';
COMMENT ON COLUMN labels.feature IS '0-based feature index';
COMMENT ON COLUMN labels.value IS 'id of the value';
COMMENT ON COLUMN labels.polarity IS '+1: active where the value is held, -1: where it is rejected';
COMMENT ON COLUMN labels.effect IS 'standardised mean difference within contexts [SD]';
COMMENT ON COLUMN labels.low IS 'lower end of its 95 % interval [SD]';
COMMENT ON COLUMN labels.high IS 'upper end of its 95 % interval [SD]';
COMMENT ON COLUMN labels.p IS 'two-sided p of no difference [0 to 1]';
COMMENT ON COLUMN labels.q IS 'p after Benjamini-Hochberg over features x values [0 to 1]';
COMMENT ON COLUMN labels.score IS 'held-out area under the ROC curve within contexts [0 to 1]';
COMMENT ON COLUMN labels.gain IS 'held-out share of activation on texts with the value, above its base rate [at most 1; 0 = chance]';
COMMENT ON COLUMN labels.n IS 'texts that carry the value [texts]';
COMMENT ON COLUMN labels.method IS 'name of the labeler';
COMMENT ON COLUMN labels.accepted IS 'whether the labeler''s thresholds are met';
COMMENT ON COLUMN labels.evidence IS 'thresholds, counts, runner-up [JSON]';

CREATE TABLE responses (run VARCHAR, item VARCHAR, value VARCHAR, context INTEGER, wording VARCHAR, "order" VARCHAR, seed BIGINT, steering VARCHAR, text VARCHAR, logprobs DOUBLE[], rating DOUBLE, status VARCHAR);
COMMENT ON TABLE responses IS 'Every answer of a profile run, refused and unparsed ones included.';
COMMENT ON COLUMN responses.run IS 'run of kind profile';
COMMENT ON COLUMN responses.item IS 'id of the item';
COMMENT ON COLUMN responses.value IS 'id of the value it measures';
COMMENT ON COLUMN responses.context IS '0-based number of the prompt context (cluster)';
COMMENT ON COLUMN responses.wording IS 'name of the wording';
COMMENT ON COLUMN responses."order" IS 'ascending | descending: order of the options';
COMMENT ON COLUMN responses.seed IS 'seed of the sampling; 0 where nothing is sampled';
COMMENT ON COLUMN responses.steering IS 'what was changed; base = nothing';
COMMENT ON COLUMN responses.text IS 'raw answer, or the most likely option';
COMMENT ON COLUMN responses.logprobs IS 'log-probability of each option, least agreement first [nats]';
COMMENT ON COLUMN responses.rating IS 'agreement, reverse-keyed items turned round [1 to number of options]; NaN unless parsed';
COMMENT ON COLUMN responses.status IS 'parsed | refused | unparsed';

CREATE TABLE prompts (run VARCHAR, context INTEGER, item VARCHAR, wording VARCHAR, "order" VARCHAR, value VARCHAR, prompt VARCHAR);
COMMENT ON TABLE prompts IS 'The exact text behind every rating and response.';
COMMENT ON COLUMN prompts.run IS 'run of kind profile or effects';
COMMENT ON COLUMN prompts.context IS '0-based number of the prompt context (cluster)';
COMMENT ON COLUMN prompts.item IS 'id of the item';
COMMENT ON COLUMN prompts.wording IS 'name of the wording';
COMMENT ON COLUMN prompts."order" IS 'ascending | descending: order of the options';
COMMENT ON COLUMN prompts.value IS 'id of the value the item measures';
COMMENT ON COLUMN prompts.prompt IS 'text as the model received it, before special tokens';

CREATE TABLE profiles (run VARCHAR, steering VARCHAR, value VARCHAR, mean DOUBLE, low DOUBLE, high DOUBLE, n INTEGER, parsed INTEGER, missing INTEGER, centred BOOLEAN);
COMMENT ON TABLE profiles IS 'Value profiles, raw and centred.';
COMMENT ON COLUMN profiles.run IS 'run of kind profile';
COMMENT ON COLUMN profiles.steering IS 'what was changed; base = nothing';
COMMENT ON COLUMN profiles.value IS 'id of the value';
COMMENT ON COLUMN profiles.mean IS 'mean over items and contexts [rating points]';
COMMENT ON COLUMN profiles.low IS 'lower end of the 95 % interval over contexts [rating points]';
COMMENT ON COLUMN profiles.high IS 'upper end of it [rating points]';
COMMENT ON COLUMN profiles.n IS 'contexts behind the interval [clusters]';
COMMENT ON COLUMN profiles.parsed IS 'answers in the mean [answers]';
COMMENT ON COLUMN profiles.missing IS 'answers refused or unread [answers]';
COMMENT ON COLUMN profiles.centred IS 'whether the mean rating of all items was subtracted';

CREATE TABLE interventions (run VARCHAR, intervention INTEGER, steering VARCHAR, kind VARCHAR, unit_id INTEGER, feature INTEGER, value VARCHAR, polarity INTEGER, dose DOUBLE, unit VARCHAR, damage DOUBLE, damage_low DOUBLE, damage_high DOUBLE, damage_n INTEGER);
COMMENT ON TABLE interventions IS 'What a sweep changed: each labelled feature and each control at each dose.';
COMMENT ON COLUMN interventions.run IS 'run of kind effects';
COMMENT ON COLUMN interventions.intervention IS '0-based number within the sweep';
COMMENT ON COLUMN interventions.steering IS 'readable name of the steering';
COMMENT ON COLUMN interventions.kind IS 'feature | random-feature | random-direction';
COMMENT ON COLUMN interventions.unit_id IS '0-based number of what is steered; its doses share it';
COMMENT ON COLUMN interventions.feature IS '0-based feature index; -1 for a random direction';
COMMENT ON COLUMN interventions.value IS 'value the feature is labelled with; empty for controls';
COMMENT ON COLUMN interventions.polarity IS 'polarity of the label; +1 for controls';
COMMENT ON COLUMN interventions.dose IS 'strength [in unit]';
COMMENT ON COLUMN interventions.unit IS 'raw | feature_max | norm_share';
COMMENT ON COLUMN interventions.damage IS 'rise of the mean loss on neutral text [nats per token]';
COMMENT ON COLUMN interventions.damage_low IS 'lower end of its 95 % interval over texts [nats per token]';
COMMENT ON COLUMN interventions.damage_high IS 'upper end of it [nats per token]';
COMMENT ON COLUMN interventions.damage_n IS 'neutral texts [texts]';

CREATE TABLE damages (run VARCHAR, intervention INTEGER, text INTEGER, damage DOUBLE);
COMMENT ON TABLE damages IS 'Damage of every intervention to every neutral text.';
COMMENT ON COLUMN damages.run IS 'run of kind effects';
COMMENT ON COLUMN damages.intervention IS 'number of the intervention';
COMMENT ON COLUMN damages.text IS '0-based number of the neutral text';
COMMENT ON COLUMN damages.damage IS 'steered less unsteered mean loss of the text [nats per token]';

CREATE TABLE ratings (run VARCHAR, intervention INTEGER, context INTEGER, item VARCHAR, wording VARCHAR, "order" VARCHAR, value VARCHAR, rating FLOAT, base FLOAT);
COMMENT ON TABLE ratings IS 'The measurements behind every effect: expected rating of each prompt, steered and unsteered.';
COMMENT ON COLUMN ratings.run IS 'run of kind effects';
COMMENT ON COLUMN ratings.intervention IS 'number of the intervention';
COMMENT ON COLUMN ratings.context IS '0-based number of the prompt context (cluster)';
COMMENT ON COLUMN ratings.item IS 'id of the item';
COMMENT ON COLUMN ratings.wording IS 'name of the wording';
COMMENT ON COLUMN ratings."order" IS 'ascending | descending: order of the options';
COMMENT ON COLUMN ratings.value IS 'value the item measures';
COMMENT ON COLUMN ratings.rating IS 'expected rating while steered [1 to number of options]';
COMMENT ON COLUMN ratings.base IS 'expected rating of the same prompt, unsteered [1 to number of options]';

CREATE TABLE dose_effects (run VARCHAR, unit_id INTEGER, kind VARCHAR, feature INTEGER, value VARCHAR, polarity INTEGER, dose DOUBLE, target VARCHAR, effect DOUBLE, low DOUBLE, high DOUBLE, points DOUBLE, n INTEGER, damage DOUBLE);
COMMENT ON TABLE dose_effects IS 'Dose-response of every feature and control on every value.';
COMMENT ON COLUMN dose_effects.run IS 'run of kind effects';
COMMENT ON COLUMN dose_effects.unit_id IS 'what is steered';
COMMENT ON COLUMN dose_effects.kind IS 'feature | random-feature | random-direction';
COMMENT ON COLUMN dose_effects.feature IS '0-based feature index; -1 for a random direction';
COMMENT ON COLUMN dose_effects.value IS 'value the feature is labelled with; empty for controls';
COMMENT ON COLUMN dose_effects.polarity IS 'polarity of the label';
COMMENT ON COLUMN dose_effects.dose IS 'strength [in the sweep''s unit]';
COMMENT ON COLUMN dose_effects.target IS 'value that was measured';
COMMENT ON COLUMN dose_effects.effect IS 'paired mean change [unsteered SD of the target]';
COMMENT ON COLUMN dose_effects.low IS 'lower end of the 95 % interval over contexts [SD]';
COMMENT ON COLUMN dose_effects.high IS 'upper end of it [SD]';
COMMENT ON COLUMN dose_effects.points IS 'the same change [rating points]';
COMMENT ON COLUMN dose_effects.n IS 'contexts [clusters]';
COMMENT ON COLUMN dose_effects.damage IS 'rise of the loss on neutral text at this dose [nats per token]';

CREATE TABLE matched (run VARCHAR, unit_id INTEGER, kind VARCHAR, feature INTEGER, value VARCHAR, polarity INTEGER, strength DOUBLE, reached BOOLEAN, damage DOUBLE);
COMMENT ON TABLE matched IS 'Damage-matched strength of every feature and control.';
COMMENT ON COLUMN matched.run IS 'run of kind effects';
COMMENT ON COLUMN matched.unit_id IS 'what is steered';
COMMENT ON COLUMN matched.kind IS 'feature | random-feature | random-direction';
COMMENT ON COLUMN matched.feature IS '0-based feature index; -1 for a random direction';
COMMENT ON COLUMN matched.value IS 'value the feature is labelled with; empty for controls';
COMMENT ON COLUMN matched.polarity IS 'polarity of the label';
COMMENT ON COLUMN matched.strength IS 'strength at which the damage equals the sweep''s limit [in the sweep''s unit]';
COMMENT ON COLUMN matched.reached IS 'false: the damage stays below the limit at every dose, strength is the largest dose';
COMMENT ON COLUMN matched.damage IS 'damage at that strength [nats per token]';

CREATE TABLE side_effects (run VARCHAR, source VARCHAR, target VARCHAR, effect DOUBLE, low DOUBLE, high DOUBLE, p DOUBLE, q DOUBLE, null_low DOUBLE, null_high DOUBLE, n INTEGER, features INTEGER);
COMMENT ON TABLE side_effects IS 'The value x value matrix at damage-matched strength.';
COMMENT ON COLUMN side_effects.run IS 'run of kind effects';
COMMENT ON COLUMN side_effects.source IS 'value whose features were steered';
COMMENT ON COLUMN side_effects.target IS 'value that was measured';
COMMENT ON COLUMN side_effects.effect IS 'mean change, turned so that the source rises [unsteered SD of the target]';
COMMENT ON COLUMN side_effects.low IS 'lower end of the 95 % interval over contexts [SD]';
COMMENT ON COLUMN side_effects.high IS 'upper end of it [SD]';
COMMENT ON COLUMN side_effects.p IS 'two-sided p of no change [0 to 1]';
COMMENT ON COLUMN side_effects.q IS 'p after Benjamini-Hochberg over off-diagonal cells [0 to 1]';
COMMENT ON COLUMN side_effects.null_low IS '2.5 % quantile under random features and directions [SD]';
COMMENT ON COLUMN side_effects.null_high IS '97.5 % quantile of it [SD]';
COMMENT ON COLUMN side_effects.n IS 'contexts [clusters]';
COMMENT ON COLUMN side_effects.features IS 'features of the source value [features]';

CREATE TABLE leakage (run VARCHAR, source VARCHAR, part VARCHAR, leakage DOUBLE, low DOUBLE, high DOUBLE, reason VARCHAR);
COMMENT ON TABLE leakage IS 'How much of a value''s steering goes elsewhere.';
COMMENT ON COLUMN leakage.run IS 'run of kind effects';
COMMENT ON COLUMN leakage.source IS 'value whose features were steered';
COMMENT ON COLUMN leakage.part IS 'all | adjacent | orthogonal | opposed (place of the targets on the circle)';
COMMENT ON COLUMN leakage.leakage IS 'RMS of the off-diagonal effects over the diagonal one [ratio]; NaN where undefined';
COMMENT ON COLUMN leakage.low IS 'lower end of its 95 % interval [ratio]';
COMMENT ON COLUMN leakage.high IS 'upper end of it [ratio]';
COMMENT ON COLUMN leakage.reason IS 'why it is undefined; empty otherwise';

CREATE TABLE edges (run VARCHAR, source VARCHAR, target VARCHAR, weight DOUBLE, low DOUBLE, high DOUBLE, z DOUBLE, q DOUBLE, frequency DOUBLE, present BOOLEAN);
COMMENT ON TABLE edges IS 'Direct effects between values, every ordered pair.';
COMMENT ON COLUMN edges.run IS 'run of kind graph';
COMMENT ON COLUMN edges.source IS 'cause';
COMMENT ON COLUMN edges.target IS 'effect';
COMMENT ON COLUMN edges.weight IS 'direct effect [rating points per rating point]';
COMMENT ON COLUMN edges.low IS 'lower end of the 95 % interval over contexts and features';
COMMENT ON COLUMN edges.high IS 'upper end of it';
COMMENT ON COLUMN edges.z IS 'weight over its bootstrap SD';
COMMENT ON COLUMN edges.q IS 'p after Benjamini-Hochberg over ordered pairs [0 to 1]';
COMMENT ON COLUMN edges.frequency IS 'share of bootstrap replicates that contain the edge [0 to 1]';
COMMENT ON COLUMN edges.present IS 'whether the edge belongs to the graph';

CREATE TABLE true_edges (run VARCHAR, source VARCHAR, target VARCHAR, weight DOUBLE);
COMMENT ON TABLE true_edges IS 'The planted graph, where the model has one.';
COMMENT ON COLUMN true_edges.run IS 'run of kind graph';
COMMENT ON COLUMN true_edges.source IS 'cause';
COMMENT ON COLUMN true_edges.target IS 'effect';
COMMENT ON COLUMN true_edges.weight IS 'planted direct effect [rating points per rating point]';


CREATE TABLE pairs (run VARCHAR, pair INTEGER, value VARCHAR, held VARCHAR, opposed VARCHAR, context VARCHAR, kept BOOLEAN, reason VARCHAR);
COMMENT ON TABLE pairs IS 'Pairs of texts that differ in one value, refused ones included.';
COMMENT ON COLUMN pairs.run IS 'run of kind probes';
COMMENT ON COLUMN pairs.pair IS '0-based number of the pair';
COMMENT ON COLUMN pairs.value IS 'id of the value';
COMMENT ON COLUMN pairs.held IS 'text in which the value is held';
COMMENT ON COLUMN pairs.opposed IS 'the same text without the value, or against it';
COMMENT ON COLUMN pairs.context IS 'what both texts share; never split between training and test';
COMMENT ON COLUMN pairs.kept IS 'whether probes were trained or tested on it';
COMMENT ON COLUMN pairs.reason IS 'why it was refused; empty otherwise';

CREATE TABLE probes (run VARCHAR, value VARCHAR, layer INTEGER, accuracy DOUBLE, low DOUBLE, high DOUBLE, n INTEGER, control DOUBLE, bias DOUBLE, norm DOUBLE, length_auroc DOUBLE, chosen BOOLEAN);
COMMENT ON TABLE probes IS 'Linear probes of every value at every layer.';
COMMENT ON COLUMN probes.run IS 'run of kind probes';
COMMENT ON COLUMN probes.value IS 'id of the value';
COMMENT ON COLUMN probes.layer IS '0-based decoder layer whose output is read';
COMMENT ON COLUMN probes.accuracy IS 'share of held-out texts told right [0 to 1]';
COMMENT ON COLUMN probes.low IS 'lower end of its 95 % interval over contexts [0 to 1]';
COMMENT ON COLUMN probes.high IS 'upper end of it [0 to 1]';
COMMENT ON COLUMN probes.n IS 'held-out contexts [contexts]';
COMMENT ON COLUMN probes.control IS 'accuracy where the sides of pairs are swapped at random [0 to 1]';
COMMENT ON COLUMN probes.bias IS 'b [nats of log-odds]';
COMMENT ON COLUMN probes.norm IS 'length of w [nats of log-odds per residual unit]';
COMMENT ON COLUMN probes.length_auroc IS 'AUROC of the number of tokens alone [0 to 1, 0.5 = none]';
COMMENT ON COLUMN probes.chosen IS 'whether ConVA steers this layer';

CREATE TABLE probe_features (run VARCHAR, value VARCHAR, kind VARCHAR, rank INTEGER, feature INTEGER, cosine DOUBLE, null_high DOUBLE);
COMMENT ON TABLE probe_features IS 'The SAE features that a stored direction is made of: cosines to decoder rows at the SAE''s site.';
COMMENT ON COLUMN probe_features.run IS 'run of kind probes';
COMMENT ON COLUMN probe_features.value IS 'id of the value';
COMMENT ON COLUMN probe_features.kind IS 'probe | difference-of-means';
COMMENT ON COLUMN probe_features.rank IS '0-based, the largest absolute cosine first';
COMMENT ON COLUMN probe_features.feature IS '0-based feature index';
COMMENT ON COLUMN probe_features.cosine IS 'cosine of the decoder row to the direction [-1 to 1]';
COMMENT ON COLUMN probe_features.null_high IS '97.5 % quantile of the largest absolute cosine to a random direction [0 to 1]';

CREATE TABLE control_answers (run VARCHAR, steering VARCHAR, kind VARCHAR, item VARCHAR, value VARCHAR, question VARCHAR, gate DOUBLE, open BOOLEAN, answer VARCHAR, choice VARCHAR, fluent VARCHAR, status VARCHAR, fluent_status VARCHAR, judge VARCHAR);
COMMENT ON TABLE control_answers IS 'Every answer before and after control, with its verdicts, unread ones included.';
COMMENT ON COLUMN control_answers.run IS 'run of kind control';
COMMENT ON COLUMN control_answers.steering IS 'base, or what was controlled';
COMMENT ON COLUMN control_answers.kind IS 'dilemma | choice (multiple-choice benchmark)';
COMMENT ON COLUMN control_answers.item IS 'id of the dilemma or benchmark item';
COMMENT ON COLUMN control_answers.value IS 'value of the dilemma; empty for benchmark items';
COMMENT ON COLUMN control_answers.question IS 'text as it was asked';
COMMENT ON COLUMN control_answers.gate IS 'score of the gate''s detector [0 to 1]; NaN without a gate';
COMMENT ON COLUMN control_answers.open IS 'whether this prompt was steered';
COMMENT ON COLUMN control_answers.answer IS 'what the model wrote, or the option it preferred';
COMMENT ON COLUMN control_answers.choice IS 'verdict on the value: Yes | No | Unclear; for benchmark items the right option; empty unless parsed';
COMMENT ON COLUMN control_answers.fluent IS 'verdict on the language: Yes | No; empty unless parsed';
COMMENT ON COLUMN control_answers.status IS 'parsed | refused | unparsed: the verdict on the value';
COMMENT ON COLUMN control_answers.fluent_status IS 'parsed | refused | unparsed: the verdict on the language; empty for benchmark items';
COMMENT ON COLUMN control_answers.judge IS 'name of the judge; empty for benchmark items';

CREATE TABLE control (run VARCHAR, steering VARCHAR, measure VARCHAR, value VARCHAR, mean DOUBLE, low DOUBLE, high DOUBLE, n INTEGER, missing INTEGER);
COMMENT ON TABLE control IS 'Control success, fluency and benchmark accuracy, before, after, and their paired change.';
COMMENT ON COLUMN control.run IS 'run of kind control';
COMMENT ON COLUMN control.steering IS 'base, what was controlled, or change (after less before, paired by item)';
COMMENT ON COLUMN control.measure IS 'csr (control success) | fr (fluency) | accuracy (multiple choice)';
COMMENT ON COLUMN control.value IS 'id of the controlled value';
COMMENT ON COLUMN control.mean IS 'mean over items [0 to 1; a change -1 to 1]; NaN where nothing was parsed';
COMMENT ON COLUMN control.low IS 'lower end of the 95 % interval over items';
COMMENT ON COLUMN control.high IS 'upper end of it';
COMMENT ON COLUMN control.n IS 'items with a parsed verdict [items]';
COMMENT ON COLUMN control.missing IS 'items whose verdict was refused or could not be read [items]';
