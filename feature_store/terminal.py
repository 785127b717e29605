r"""Text of strangers on its way to a terminal: what would command the terminal is shown instead.

A token, a summary, an endpoint's error or a file's name may hold escape sequences (they clear the
screen, set its title, write to the clipboard), line breaks (they forge a line of ours) and marks of
direction (they show a text in another order than it has). `visible` writes each of these characters
as Python writes it between quotation marks: `\x1b`, `\n`, `\u202e`.

Left out: text that only looks like other text (a Cyrillic letter for a Latin one); it is shown.
"""

import unicodedata

KEPT = "\t\u200c\u200d"
"""Control and format characters that stay: tabs, and the two that join letters and emoji."""
CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode that are escaped: controls (C0 and C1), formats (marks of direction among
them), lone surrogates (no terminal can show one), separators of lines and of paragraphs."""


def visible(text: object) -> str:
    r"""Write a text so that it stands on one line and commands no terminal.

    >>> visible("red \x1b[31m, two\nlines")
    'red \\x1b[31m, two\\nlines'
    """
    return "".join(map(_shown, str(text)))


def _shown(character: str) -> str:
    if character in KEPT or unicodedata.category(character) not in CONTROLS:
        return character
    return ascii(character)[1:-1]
