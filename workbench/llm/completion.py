"""What an endpoint's reply says: a text, who wrote it, and how many tokens it took.

1. `read_completion` takes the bytes of a reply to a `Completion`, or refuses them. Nothing is kept
   or counted of a reply that is refused.
2. A text is a string, or a list of parts of type `text`; none at all is an empty answer. Half of a
   surrogate pair, which a server leaves where it cuts an answer within a sign, becomes U+FFFD.
3. Counts of tokens that are no counts are left out, not guessed.
4. `masked` takes the key out of what a stranger sends back.
"""

import json
import re
from typing import Any, NamedTuple

from feature_store.errors import BadInput
from feature_store.files import shown

MOST_TOKENS = 2**40
"""A count beyond it is none."""
SECRET = 8
"""A shorter key may be a word of an answer; it is masked in messages alone [letters]."""
MASK = "***"


class Completion(NamedTuple):
    """What a reply says."""

    text: str
    """The answer."""
    model: str
    """Model that wrote it, by its own word; empty where it does not say."""
    read: int
    """Tokens read; -1 where they are not counted."""
    written: int
    """Tokens written; -1 where they are not counted."""


def read_completion(body: bytes) -> Completion:
    """Read a reply. Raises BadInput with what is wrong with it."""
    content = _json(body)
    if not isinstance(content, dict):
        raise BadInput(f"expected a JSON object, got {_kind(content)}")
    if content.get("error"):
        raise BadInput(f"expected an answer, got an error: {read_error(body)}")
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BadInput(f"expected choices, got {_kind(choices)}")
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    if not isinstance(message, dict):
        raise BadInput(f"expected a message in the first choice, got {_kind(message)}")
    text = _text(message.get("content"))
    if not text and isinstance(message.get("refusal"), str):
        text = _whole(message["refusal"])
    model = content.get("model")
    name = model if isinstance(model, str) else ""
    usage = content.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    read = _count(counts.get("prompt_tokens"))
    written = _count(counts.get("completion_tokens"))
    return Completion(text=text, model=name, read=read, written=written)


def read_error(body: bytes) -> str:
    """Give what the reply to a request that was turned down says, of any length; empty: nothing."""
    try:
        content = _json(body)
    except BadInput:
        return body.decode("utf-8", "replace")
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message", error) if isinstance(error, dict) else error
    return message if isinstance(message, str) else shown(message, len(body))


def masked(text: str, key: str) -> str:
    """Put stars in the place of a key, in whatever letters it comes back."""
    return re.sub(re.escape(key), MASK, text, flags=re.I) if key else text


def _json(body: bytes) -> Any:
    """Read a JSON value. Raises BadInput."""
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))
    except RecursionError:
        raise BadInput("expected JSON, got one that is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadInput(f"expected JSON: {error.msg} at letter {error.pos + 1}") from None
    except ValueError:
        raise BadInput("expected JSON, got a number of too many digits") from None


def _text(content: Any) -> str:
    """Read the content of a message. Raises BadInput for what is no text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return _whole(content)
    if not isinstance(content, list):
        raise BadInput(f"expected an answer in words, got {_kind(content)}")
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"):
            continue
        if not isinstance(text, str):
            raise BadInput("expected an answer in words, got a part without a text")
        texts.append(_whole(text))
    return "".join(texts)


def _whole(text: str) -> str:
    """Join surrogate pairs, and put U+FFFD for half of one."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(number: Any) -> int:
    """Read a count of tokens; -1 for what is none."""
    is_count = isinstance(number, int) and not isinstance(number, bool)
    return number if is_count and 0 <= number <= MOST_TOKENS else -1


def _kind(value: Any) -> str:
    """Say what kind of JSON value stands there."""
    if isinstance(value, list | str | dict) and not value:
        return "an empty one"
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    if value is None:
        return "nothing"
    return names.get(type(value), "a number")
