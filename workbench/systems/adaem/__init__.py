"""AdAEM: questions that tell a population of models, or of steered variants of one model, apart by
their values (Duan et al., ICLR 2026).

1. `population` opens the members: variants of one model along SAE features or stored directions,
   primed ones, or other language models.
2. `classifiers` read which values an opinion holds; whoever reads *is* the measurement, so its name
   stands on every row.
3. `divergence` scores a question: how far the members' distributions over values lie apart, and
   from the question's own.
4. `responses` is the response step (opinions sampled, the telling ones kept), `rewriting` the
   question step, `bandit` chooses the topic, `search` goes round.
5. `report` asks the chosen questions anew, since the best of many noisy scores is too good to be
   true; `ratings` ranks the members by TrueSkill.

What was found is an instrument like any other (`workbench/instruments/adaem.py`).
"""

WORDINGS = (
    ("plain", "{item}"),
    ("opinion", "{item}\n\nSay in two or three sentences what you think and what you would do."),
)
"""How a question is put: the organism goes on where it ends, others are asked for their opinion."""
