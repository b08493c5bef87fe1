"""From a reply that lists texts, one a line, to the texts.

The teacher is asked for plain lines and not for JSON: with a small model that costs a third fewer tokens, and a list
that was cut off loses its last line only. A JSON array is read all the same, because some models cannot help it.
"""

import json
import re
import unicodedata

from factory.teacher import Reply

_BULLET = re.compile(r"(?:[-*•–]+\s+|\(?\d{1,3}[.):](?!\d)\s*|text\s*\d*\s*:\s*)", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) (?:just |only )?an? (?:ai|(?:large )?language model)\b"
    r"|\b(?:can't|cannot|can not|unable to|not able to|won't)"
    r" (?:assist|comply|fulfill?"
    r"|help (?:you )?with (?:this|that|your request)"
    r"|(?:create|generate|produce|provide|write) (?:this|that|these|those|such|any|content|texts?)\b)",
    re.IGNORECASE,
)
"""What assistants say when they decline. People apologise and cannot do things too (`I'm sorry, I can't come tonight`),
so an apology alone is none: it takes an AI that names itself, or a request that is not met."""


def texts_in(reply: Reply) -> tuple[str, ...]:
    """Read the texts of a reply.

    Args:
        reply: One text a line, perhaps numbered, bulleted or quoted; or a JSON array of texts. A line that the token
            limit cut off is left out.

    Returns:
        The texts in order, each once; empty when there is none. Refusals are among them: see `is_refusal`.
    """
    lines = _json_array(reply.text)
    if lines is None:
        lines = reply.text.splitlines()
        if reply.finish_reason == "length" and not reply.text.endswith("\n"):
            lines = lines[:-1]
    texts = [clean(line) for line in lines if not _is_heading(line)]
    return tuple(dict.fromkeys(text for text in texts if any(map(str.isalnum, text))))


def clean(line: str) -> str:
    """Strip numbers, bullets, quotes, control characters and surplus space; cleaning twice changes nothing more."""
    visible = (
        character for character in line if unicodedata.category(character) != "Cs" and not _is_control(character)
    )
    text = " ".join("".join(visible).split())
    while (shorter := _unwrap(text)) != text:
        text = shorter
    return text


def is_refusal(text: str) -> bool:
    """Tell whether an assistant declines here instead of a person speaking."""
    return _REFUSAL.search(text.replace("’", "'")) is not None


def _unwrap(text: str) -> str:
    """Take off one bullet and one pair of quotes."""
    text = _BULLET.sub("", text, count=1).strip() if _BULLET.match(text) else text
    if text[-2:-1] in _QUOTES.values() and text.endswith(","):
        text = text[:-1]  # an element of a list in some programming language
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and not character.isspace()  # a tab parts words


def _json_array(text: str) -> list[str] | None:
    """Return the strings of a reply that is a JSON array of strings, fenced or not; None when it is anything else."""
    bare = re.sub(r"^\s*```\w*\s*|\s*```\s*$", "", text)
    if not bare.lstrip().startswith("["):
        return None
    try:
        items = json.loads(bare)
    except (ValueError, RecursionError):
        return None
    return items if all(isinstance(item, str) for item in items) else None


def _is_heading(line: str) -> bool:
    """Tell whether a line introduces the list (`Here are 8 texts:`) or fences it instead of being a text."""
    stripped = line.strip().strip("*# ")
    return (
        stripped.startswith("```")
        or stripped in ("[", "]")
        or (
            stripped.endswith(":") and stripped.lower().startswith(("here ", "sure", "certainly", "of course", "texts"))
        )
    )
