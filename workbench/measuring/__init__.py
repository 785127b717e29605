"""How an instrument is asked, read and scored: the same for any model, steered or not, here or
behind an endpoint.

1. `questions` writes what is asked: contexts x items x wordings x orders of the answers x repeats.
   `defaults` holds the settings of that, and what is asked unless something else is named.
2. `respondents` answer: by log-probability (kept in `scores.jsonl`) or in words (`answers.jsonl`),
   each question once; `seeing` holds those that see images.
3. `administer` goes through the questions, those that follow others after them, and reads every
   answer (`reading`).
4. `profiles` and `by_item` score the stored responses, `quality` says what speaks against them:
   pure functions, so that a stored run can be scored again.

An instrument is a plug-in (`workbench/instruments`): a `Questionnaire` that may bring its own
items, reading, rating and scores.
"""
