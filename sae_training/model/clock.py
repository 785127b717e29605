"""The day that a chat template tells.

Some templates write the day into every conversation (Llama 3.2's does, by `strftime_now`). What
such a model answers depends on the day on which it is asked, so the day is one of the things that
decide a result: it is given, stands still while a model is open, and belongs to what is pinned of
it (`Runtime.pinned`).

1. `reads_clock` says whether a template asks for the time at all.
2. `stop` makes the template see midnight at the beginning of one day, whenever it asks.

A template that draws at random cannot be pinned, and is refused. Left out: the clock of an
endpoint, whose templates nobody sees.
"""

from datetime import datetime
from typing import Any

from feature_store.errors import BadInput, Incompatible

CLOCK = "strftime_now"
"""What a template calls for the time; transformers gives it."""


def reads_clock(template: str, name: str) -> bool:
    """Say whether a chat template, that of the model `name`, asks for the time.

    Raises Incompatible where it draws at random, BadInput where it cannot be read.
    """
    from jinja2 import TemplateError, nodes

    try:
        tree = _compiled(template).environment.parse(template)
    except TemplateError as error:
        raise BadInput(
            f"The chat template of {name} cannot be read: {error}. Mend it, or use chat=off."
        ) from None
    called = {node.name for node in tree.find_all(nodes.Name)}
    filters = {node.name for node in tree.find_all(nodes.Filter)}
    if "random" in filters or "lipsum" in called:
        raise Incompatible(
            f"The chat template of {name} draws at random, so no result could be made again. Take"
            " the drawing out of the template, or use chat=off."
        )
    return CLOCK in called


def stop(template: str, today: str) -> None:
    """Let a template see the beginning of the day `today` whenever it asks for the time.

    Call it before each rendering: the compiled template belongs to transformers.
    """
    now = datetime.fromisoformat(today)
    _compiled(template).globals[CLOCK] = now.strftime


def _compiled(template: str) -> Any:
    """Give the compiled template that transformers renders by."""
    # transformers 5 turns a function that is handed to apply_chat_template into text, so its own
    # clock has to be changed.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    return _compile_jinja_template(template)
