"""Keywords and regular expressions that label texts.

Patterns run on RE2, which takes time in proportion to the text whatever the pattern and bounds its memory. The
alternative with a time limit, the package `regex`, makes the answer depend on how busy the machine is, and compiling
`((a{1000}){1000}){1000}` used up all memory.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

from factory.spec import Rule
from factory.spec_errors import not_among
from factory.spec_source import KeyPath

FOREIGN = "\ue000"
"""A text no pattern means: from the private area of Unicode."""


class WrongRule(ValueError):
    """A rule that cannot work; `key` says which part of it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def matcher(rule: Rule) -> Callable[[str], bool]:
    """Make a function that tells whether a rule fires on a text.

    Args:
        rule: Keywords or a pattern.

    Returns:
        The function; it never fails and never takes long.

    Raises:
        WrongRule: The pattern is not one of RE2's, or fires on every text.
    """
    if rule.pattern is None:
        return _keyword_matcher(rule.keywords)
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        pattern = re2.compile(rule.pattern, options)
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise WrongRule(
            "pattern", f"not a pattern of RE2 (https://github.com/google/re2/wiki/Syntax): {said}"
        ) from error
    if all(pattern.search(text) for text in ("", FOREIGN)):
        raise WrongRule("pattern", "matches every text, even an empty one: say what the text must hold")
    return lambda text: pattern.search(text) is not None


def wrong_rules(rules: Sequence[Rule], labels: Sequence[str]) -> list[tuple[KeyPath, str]]:
    """Find the rules that cannot work.

    Args:
        rules: The rules of a spec.
        labels: Its labels.

    Returns:
        For each fault the key path from the list of rules on, and what is wrong there.
    """
    found: list[tuple[KeyPath, str]] = []
    for position, rule in enumerate(rules):
        if rule.label not in labels:
            found.append(((position, "label"), f"{rule.label!r} is {not_among(rule.label, labels)}"))
        try:
            matcher(rule)
        except WrongRule as error:
            found.append(((position, error.key), str(error)))
    return found


def _keyword_matcher(keywords: Sequence[str]) -> Callable[[str], bool]:
    # Escaped words side by side: nothing in this pattern can repeat, so `re` cannot be made to backtrack.
    words = "|".join(re.escape(_plain(keyword)) for keyword in keywords)
    pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)")
    return lambda text: pattern.search(_plain(text)) is not None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
