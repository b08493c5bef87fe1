"""What is wrong with a value, in our words: pydantic's errors and misspelt names, for a person with a YAML file."""

import difflib
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from factory.errors import Problem
from factory.spec_source import MAX_PROBLEMS, KeyPath, Source, first_of

_SHOWN = 60


def shown(value: object) -> str:
    """Write a value so that it fits in a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")
        case int() | float():
            number = str(value)
            return number if len(number) <= _SHOWN else f"a number of {len(number)} digits"
        case Mapping():
            return "a mapping"
        case _:
            return "a list"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name a person may have meant, whatever its case, or None."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name[:100].casefold().strip(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; nearest: 'refund'`, or nothing when no known name is near."""
    guess = nearest(name, known)
    return f"; nearest: {guess!r}" if guess else ""


def listed(names: Sequence[str]) -> str:
    """Write names with commas, the first dozen of them."""
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def not_among(name: str, known: Sequence[str]) -> str:
    """Say what the known names are, and which is nearest: `not one of a, b, c; nearest: 'b'`."""
    return f"not one of {listed(known)}{suggestion(name, known)}"


def problems_of(error: ValidationError, model: type, source: Source, at: KeyPath = ()) -> list[Problem]:
    """Translate what pydantic found.

    Args:
        error: The errors of one validation.
        model: The pydantic model or dataclass that was validated.
        source: The file the values came from.
        at: Where in the file the validated value stands.

    Returns:
        One problem for each error a person can mend; those that only follow from another one are left out. The first
        `MAX_PROBLEMS` in order of line; the rest are counted.
    """
    details = error.errors(include_url=False)
    n_below = Counter(detail["loc"][:end] for detail in details for end in range(len(detail["loc"]) + 1))
    # pydantic counts the valid entries of a list only.
    details = [d for d in details if d["type"] not in ("too_short", "too_long") or n_below[d["loc"]] == 1]
    details.sort(key=lambda detail: source.lines.get(source.existing((*at, *detail["loc"])), 0))
    problems = []
    for detail in details[:MAX_PROBLEMS]:
        path = (*at, *detail["loc"])
        if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _keys_at(model, detail["loc"][:-1])
            message = f"unknown key, {not_among(str(path[-1]), known) if known else 'there is nothing to set here'}"
        elif detail["type"].startswith("missing"):
            message = (
                "must not be empty" if path in source.lines else "is missing"
            )  # a kind may need what others do not
        else:
            path = source.existing(path)  # a bare name stands for {name: ...}; a union adds keys of its own
            message = _WORDS.get(detail["type"], _other)(detail)
        problems.append(source.problem(path, message))
    return first_of(problems, len(details), source.file)


def _keys_at(model: type, loc: KeyPath) -> list[str]:
    """Return the keys that a model takes at a place."""
    for key in loc:
        if isinstance(key, str) and (field := _fields(model).get(key)):
            model = next((leaf for leaf in _leaves(field.annotation) if _fields(leaf)), model)
    return list(_fields(model))


def _fields(model: Any) -> Mapping[str, Any]:
    return getattr(model, "__pydantic_fields__", {})


def _leaves(annotation: Any) -> list[Any]:
    """Return the classes inside `tuple[...]`, `Annotated[...]` and unions."""
    if get_origin(annotation) in (tuple, list, Annotated, Union, types.UnionType):
        return [leaf for part in get_args(annotation) for leaf in _leaves(part)]
    return [annotation]


def _expected(what: str) -> Callable[[ErrorDetails], str]:
    """Make a translation from a template over the error's context."""
    return lambda detail: f"expected {what.format(**detail.get('ctx', {}))}, got {shown(detail['input'])}"


def _expected_text(detail: ErrorDetails) -> str:
    value = detail["input"]
    if isinstance(value, bool | int | float):
        return f'expected text, got {shown(value)}: put it in quotes ("{shown(value)}")'
    return f"expected text, got {shown(value)}"


def _too_short_text(detail: ErrorDetails) -> str:
    least = detail["ctx"]["min_length"]
    return "must not be empty" if least == 1 else f"expected at least {least} characters, got {shown(detail['input'])}"


def _wrong_count(bound: str) -> Callable[[ErrorDetails], str]:
    def say(detail: ErrorDetails) -> str:
        wanted = detail["ctx"]["min_length" if bound == "at least" else "max_length"]
        return f"expected {bound} {wanted} {'entry' if wanted == 1 else 'entries'}, got {len(detail['input'])}"

    return say


def _wrong_choice(detail: ErrorDetails) -> str:
    # pydantic writes the choices as `'a', 'b' or 'c'`.
    choices = [choice.strip("'") for choice in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    value = detail["input"]
    return f"{shown(value)} is {not_among(value if isinstance(value, str) else '', choices)}"


def _other(detail: ErrorDetails) -> str:
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, got {shown(detail['input'])}"


_WHOLE = _expected("a whole number")
_NUMBER = _expected("a number")
_TRUTH = _expected("true or false")
_LIST = _expected("a list (`- ...` lines or [a, b])")
_MAPPING = _expected("a mapping (`key: value` lines)")

_WORDS: dict[str, Callable[[ErrorDetails], str]] = {
    "string_type": _expected_text,
    "string_too_short": _too_short_text,
    "string_too_long": lambda d: f"expected at most {d['ctx']['max_length']} characters, got {len(d['input'])}",
    "string_pattern_mismatch": _expected("text like `{pattern}`"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _expected("a finite number"),
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "greater_than": _expected("a number over {gt}"),
    "greater_than_equal": _expected("a number of at least {ge}"),
    "less_than": _expected("a number under {lt}"),
    "less_than_equal": _expected("a number of at most {le}"),
    "enum": _wrong_choice,
    "literal_error": _wrong_choice,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "too_short": _wrong_count("at least"),
    "too_long": _wrong_count("at most"),
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dataclass_type": _MAPPING,
    "value_error": lambda d: str(d["ctx"]["error"]),
    "in_our_words": lambda d: d["msg"],
}
