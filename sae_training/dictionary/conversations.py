"""Conversations in a table become the text that a model reads of them.

1. `columns` says which columns of a table hold conversations: `messages`, `conversations`, or
   `prompt` with `chosen` or `completion`.
2. `messages` reads one row: a list of messages with role and content, or with from and value as
   ShareGPT writes them, or a question and its answer.
3. `write` writes it by the chat template of a model, which also writes the special tokens.

Left out: images, tools, and a template of our making: a model without one is not asked to read
conversations.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from feature_store.errors import BadInput
from feature_store.files import parse_json, shown
from feature_store.tables import Table
from sae_training.engine.model import Model

LISTS = ("messages", "conversations", "conversation")
"""Columns that hold a conversation each."""
ANSWERS = ("chosen", "completion")
"""Columns that hold the answer to the column `prompt`."""
ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}
"""Names of ShareGPT's parties -> roles of a chat template; others stay as they are."""
_WRITTEN = re.compile(r"""\s*\[\s*(\]\s*$|\{\s*['"](role|from|content|value)['"]\s*:)""")
"""A list of messages that somebody wrote as text."""

Message = dict[str, str]
"""What one party says: `role` and `content`."""


def columns(table: Table) -> tuple[str, ...]:
    """Name the columns of a table that hold conversations; none where there are none."""
    for name in LISTS:
        if name in table:
            return (table.name(name),)
    for name in ANSWERS:
        if "prompt" in table and name in table:
            return (table.name("prompt"), table.name(name))
    return ()


def are_in(table: Table, names: Sequence[str]) -> bool:
    """Whether columns of a table hold conversations: lists of messages, or texts that write them.

    Under a name that says so one is enough; under another each cell must be one, since a text among
    others may quote a conversation.
    """
    filled = [cell for name in names for cell in table.cells(name) if cell]
    is_named = tuple(names) == columns(table)
    enough = any if is_named else all
    return len(names) > 1 or (bool(filled) and enough(map(_is_written, filled)))


def _is_written(cell: Any) -> bool:
    """Whether a cell is a list of messages, or a text that writes one."""
    if isinstance(cell, str):
        return _WRITTEN.match(cell) is not None
    return isinstance(cell, list) and all(isinstance(part, dict) for part in cell)


def messages(cells: Sequence[Any], where: str) -> list[Message]:
    """Read the conversation of a row; empty where its cells are.

    `cells` is one list of messages, or a prompt and its answer, each a text or a list of messages.
    Raises BadInput that names the place.

        messages(["What matters?", "Kindness."], "chat.jsonl, line 3")
    """
    parts = [
        _part(cell, "assistant" if place else "user", where) for place, cell in enumerate(cells)
    ]
    if len(parts) == 2 and parts[1][:1] == parts[0][:1]:
        return parts[1]  # the answer holds the whole conversation, its prompt included
    return [message for part in parts for message in part]


def _part(cell: Any, role: str, where: str) -> list[Message]:
    """Read a list of messages, or a text that `role` says."""
    if isinstance(cell, str) and _is_written(cell):
        cell = _parsed(cell, where)
    if cell is None or cell == "":
        return []
    if isinstance(cell, str):
        return [{"role": role, "content": cell}]
    if not isinstance(cell, list):
        raise BadInput(f"{where}: a conversation is a list of messages, got {shown(cell)}.")
    return [_message(part, where) for part in cell]


def _parsed(cell: str, where: str) -> Any:
    """Read messages that stand in a text as JSON."""
    try:
        return parse_json(cell)
    except BadInput:
        raise BadInput(
            f"{where}: the conversation {shown(cell)} is written as Python would print it, not as"
            " JSON. Save the table as JSON lines or Parquet."
        ) from None


def _message(part: Any, where: str) -> Message:
    """Read one message in either spelling."""
    content = role = None
    if isinstance(part, Mapping):
        role, content = part.get("role", part.get("from")), part.get("content", part.get("value"))
    if isinstance(content, list):
        content = _joined(content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise BadInput(
            f"{where}: a message has role and content (or from and value), each a text, got"
            f" {shown(part)}."
        )
    return {"role": ROLES.get(role.lower(), role), "content": content}


def _joined(parts: Sequence[Any]) -> str | None:
    """Join the parts of a message that are all text; None where one is not."""
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    if len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        return None
    return "".join(map(str, texts))


def write(model: Model, conversation: Sequence[Message], where: str) -> str:
    """Write a conversation as the model reads it, by its chat template.

    What the tokenizer sets before every text is left to it. Raises BadInput that
    names the place, where the model has no template or its template refuses the conversation.
    """
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "chat_template", None):
        raise BadInput(
            f"{where} is a conversation, and {model.name} has no chat template to read it by. Use"
            " the chat model of the family, or name a column of plain text with --text-column."
        )
    advice = "Take the row out, or put its roles right."
    try:
        text = model.by_template(conversation, advice, ask=False)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    before = tokenizer.convert_ids_to_tokens(model.set_around[0])
    return text.removeprefix("".join(before))
