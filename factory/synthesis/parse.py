"""From a reply that lists texts, one a line, to the texts.

The teacher is asked for plain lines and not for JSON: with a small model that costs a third fewer tokens, and a list
that was cut off loses its last line only.
"""

import re
import unicodedata

from factory.teacher import Reply

_BULLET = re.compile(r"^\s*(?:[-*•–]+\s+|\(?\d{1,3}[.):]\s*|text\s*\d*\s*:\s*)", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}


def texts_in(reply: Reply) -> tuple[str, ...]:
    """Read the texts of a reply.

    Args:
        reply: One text a line, perhaps numbered, bulleted or quoted. A line that the token limit cut off is left out.

    Returns:
        The texts in order, each once; empty when there is none.
    """
    lines = reply.text.splitlines()
    if reply.finish_reason == "length":
        lines = lines[:-1]
    texts = [clean(line) for line in lines if not _is_heading(line)]
    return tuple(dict.fromkeys(text for text in texts if any(map(str.isalnum, text))))


def clean(line: str) -> str:
    """Strip number, bullet, quotes, control characters and surplus space from a line."""
    text = "".join(character for character in line if unicodedata.category(character) not in ("Cc", "Cs"))
    text = _BULLET.sub("", text).strip()
    if text[-2:-1] in _QUOTES.values() and text.endswith(","):
        text = text[:-1]  # an element of a list in some programming language
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1]
    return " ".join(text.split())


def _is_heading(line: str) -> bool:
    """Tell whether a line introduces the list (`Here are 8 texts:`) or fences it instead of being a text."""
    stripped = line.strip().strip("*")
    return (
        stripped.startswith("```")
        or stripped in ("[", "]")
        or (
            stripped.endswith(":") and stripped.lower().startswith(("here ", "sure", "certainly", "of course", "texts"))
        )
    )
