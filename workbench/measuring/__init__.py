"""How an instrument is asked, read and scored: the same for any model, steered or not, here or
behind an endpoint.

1. `questions` writes what is asked: contexts x items x wordings x orders of the answers x repeats.
2. `respondents` answer: by log-probability or in words, each question once (`answers.jsonl` keeps
   both).
3. `asking` goes through the questions, those that follow others after them, and reads every answer
   (`reading`).
4. `profiles` scores the stored responses: pure functions, so that a stored run can be scored again.

An instrument is a plug-in (`workbench/instruments`) that may bring its own items, reading, rating
and scores.
"""
