"""Token ids as people read them.

Tokenizers write a token in a script of their own: byte-level BPE maps every byte to a printable
sign (`Ġ` is a space, `Ċ` a line end, `é` becomes two signs), SentencePiece writes `▁` for a space
and `<0x0A>` for a byte, WordPiece `##` before what continues a word. Which script it is only the
tokenizer's own decoder knows: a vocabulary of words may well hold the letter `Ġ`.

1. The tokenizer's decoder reads each token between two letters, which are then taken away: at the
   edges of a text a decoder drops the space that a token brings.
2. Tokenizers of whole words write no space; their decoders set one before each word.
3. An added token stands outside the script, and is shown as it was added.

A token that holds only part of a character (common in emoji) shows the replacement sign.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tokenizers.decoders import WordPiece

from sae_training.model.runtime import Runtime

LETTER = "x"
"""Stands before and after a token while it is decoded; every script writes it as itself."""


def strings(model: Runtime, ids: Sequence[int]) -> list[str]:
    """Write token ids as people read them, one string an id.

    For example:

        strings(model, [464, 3290])  # ["The", " dog"]
    """
    if model.tokenizer is None:
        return [str(id) for id in ids]
    decode = _decoder(model.tokenizer)
    end = decode([LETTER, LETTER]).removeprefix(LETTER)
    space = end.removesuffix(LETTER)
    added = model.tokenizer.added_tokens_decoder
    written = []
    for id, token in zip(ids, model.tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        if id in added:
            written.append(space + token)
        else:
            text = decode([LETTER, token or "", LETTER]).removeprefix(LETTER)
            # Where the token itself says that no space follows (CTRL), the letter stands alone.
            written.append(text.removesuffix(end if text.endswith(end) else LETTER))
    return written


def _decoder(tokenizer: Any) -> Callable[[list[str]], str]:
    """Give what joins a tokenizer's tokens to a text."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if isinstance(decoder, WordPiece):
        # It would also draw a full stop to its word, which is right in whole texts only.
        return WordPiece(prefix=decoder.prefix, cleanup=False).decode
    return tokenizer.convert_tokens_to_string
