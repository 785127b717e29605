"""Token ids as people read them.

Tokenizers write a token in their own script: byte-level BPE maps every byte to a printable sign
(`Ġ` is a space, `Ċ` a line end, `é` becomes two signs), SentencePiece writes `▁` for a space and
`<0x0A>` for a byte. Here each is turned back into text; tokenizers of whole words write no space,
so one is set before each word. A token that holds only part of a character (common in emoji) shows
the replacement sign.
"""

import re
from collections.abc import Sequence
from functools import cache

from sae_training.model.runtime import Runtime

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def _bytes_of_signs() -> dict[str, int]:
    """Make GPT-2's table from a sign to its byte.

    Printable Latin-1 stands for itself, the other bytes for signs from 256 on.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


def strings(model: Runtime, ids: Sequence[int]) -> list[str]:
    """Write token ids as people read them, one string an id.

    For example:

        strings(model, [464, 3290])  # ["The", " dog"]
    """
    if model.tokenizer is None:
        return [str(id) for id in ids]
    raw = [token or "" for token in model.tokenizer.convert_ids_to_tokens(list(ids))]
    signs = set("".join(model.tokenizer.get_vocab()))
    if not signs & {"Ġ", "▁"}:
        # Whole words, or WordPiece: the space before a word is not written.
        return [token[2:] if token.startswith("##") else f" {token}" for token in raw]
    if "Ġ" not in signs:
        return [_sentencepiece(token) for token in raw]
    table = _bytes_of_signs()
    return [_byte_level(token, table) for token in raw]


def _byte_level(token: str, table: dict[str, int]) -> str:
    """Read a token of signs that stand for bytes; one with another sign is left as it is."""
    if not all(sign in table for sign in token):
        return token
    return bytes(table[sign] for sign in token).decode("utf-8", "replace")


def _sentencepiece(token: str) -> str:
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)]).decode("utf-8", "replace")
    return token.replace("▁", " ")
