"""Chat templates that have a model think before it answers.

An answer is scored, or written, where the model gives it. A prompt that ends inside a thought
("<think>") asks for the thought instead: "6" is then no rating, and a statement no words of the
model's own.

1. Every template is told `enable_thinking=False` (`NO_THOUGHT`), which Qwen3's and its likes follow
   with an empty thought; others pass over it.
2. Where what a template writes still ends in an open thought (DeepSeek-R1's), `end` gives what
   closes it, empty, as Qwen3's templates write it. A template that says something within the open
   thought is refused.

Left out: models that open a thought by themselves. What they write is read without it
(`workbench/llm/reading.py`).
"""

from collections.abc import Mapping

from feature_store.errors import Incompatible

NO_THOUGHT: Mapping[str, bool] = {"enable_thinking": False}
"""What chat templates are told of thinking."""
MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
)
"""How templates write the beginning and the end of a thought."""


def end(prompt: str, name: str) -> str:
    """Give what closes the thought in which a prompt of the model `name` ends; empty without one.

    Raises Incompatible where the template says something within the open thought.

        end("[user]Hello[model]<think>\\n", "r1")  # "\\n</think>\\n\\n"
    """
    for first, last in MARKS:
        before, opened, within = prompt.rpartition(first)
        if not opened or last in within:
            continue
        if within.strip():
            raise Incompatible(
                f"The chat template of {name} begins a thought ({first}{within[:40]}) before every"
                " answer, so no answer could be scored. Use chat=off, or a template without it."
            )
        return "\n" * max(0, 2 - within.count("\n")) + f"{last}\n\n"
    return ""
