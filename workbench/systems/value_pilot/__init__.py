"""ValuePilot: decisions driven by values, over any value system (Luo et al. 2025).

1. `scenarios` holds, reads and writes situations with scored actions; `writing` asks a language
   model for them; `filters` throws out those that name a value or are not about the values they
   were written for; `stored` is the way from a run's rows, and from people's reviews, back to
   scenarios. `dilemmas` asks for stories in steps, each a choice between two values.
2. `ranking` orders a scenario's actions for stated preferences; `agreement` compares two orders;
   `assess` rates the texts by an assessor plug-in where the written scores are not to be used.
3. `deciding` asks a model, steered or not, what it would do; `outcomes` says which values its
   decisions serve and what steering changes about that.

The paper has six dimensions of its own; here a study's value system takes their place. Left out:
agents that act in an environment, and the paper's forty people, whose answers are not ours to ship.
"""
