"""A first `spec.yaml` for a text task: from a file with a column of texts and one of labels, or from nothing."""

import json
from collections import Counter
from dataclasses import dataclass

from factory.errors import FactoryError
from factory.spec_errors import shown, suggestion
from factory.tables.draft_yaml import quoted
from factory.tables.drafting import check_labels, split_rows
from factory.tables.grid import Grid, plain_text
from factory.tables.numerals import is_missing

SKELETON = """\
# Correct every line, then run `factory check` on this folder.
name: {name}
kind: text-classification
description: Messages that customers write to a shop.  # what the texts are and who writes them
labels:  # what a text may be; a phrase each tells the teacher what belongs there
  - {{name: refund, description: wants money back}}
  - {{name: delivery, description: asks where a parcel is}}
  - {{name: other, description: anything else}}
# data:
#   pool: pool.jsonl        # real texts, a line each: {{"text": "where is my parcel"}}
#   train: train.jsonl      # labelled ones: {{"text": "where is my parcel", "label": "delivery"}}
#   holdout: holdout.jsonl  # gold rows, only read by the final report
"""


@dataclass(frozen=True)
class TextDraft:
    """A spec and its files."""

    spec: str
    files: dict[str, str]
    """Content by name."""
    n_labels: int
    n_repeated: int
    """Rows left out because their text came before with the same label."""


def draft_texts(grid: Grid, text: str, label: str, name: str) -> TextDraft:
    """Decide what a file of labelled texts is.

    Args:
        grid: The file.
        text: The column of texts.
        label: The column of labels.
        name: Of the task.

    Returns:
        The draft. Rows without a label go to a file of their own.

    Raises:
        FactoryError: A column is missing, a text is empty or has two labels, or the labels cannot be labels.
    """
    text_at, label_at = _position(grid, text), _position(grid, label)
    labels = [None if is_missing(cell) else plain_text(cell) for cell in grid.columns[label_at]]
    texts = [plain_text(cell) for cell in grid.columns[text_at]]
    empty = next((row for row, one in enumerate(texts) if not one), None)
    if empty is not None:
        raise FactoryError(f"{grid.where(empty, text_at)}: the text is empty", hint="delete the row")
    counts = Counter(one for one in labels if one is not None)
    if len(counts) < 2:
        message = f"{grid.name_where(label_at)}: expected at least two labels, got {len(counts)}"
        raise FactoryError(message, hint="name the column of labels with --label")
    check_labels(grid, label_at, labels, counts)
    first: dict[str, int] = {}
    for row, (one, answer) in enumerate(zip(texts, labels, strict=True)):
        before = first.setdefault(one, row)
        if answer != labels[before]:
            message = (
                f"{grid.where(row, label_at)}: {shown(answer)}, but the same text at {grid.where(before, label_at)}"
            )
            raise FactoryError(f"{message} is {shown(labels[before])}", hint="decide on one of them")
    rows = list(first.values())
    train, holdout = split_rows([row for row in rows if labels[row] is not None])
    parts = {"train": train, "holdout": holdout, "unlabelled": tuple(row for row in rows if labels[row] is None)}
    files = {
        f"{part}.jsonl": "".join(_line(texts[row], labels[row]) for row in picked)
        for part, picked in parts.items()
        if picked
    }
    lines = [
        f"# Drafted by `factory init` from {shown(grid.file.name)}. What is marked `proposed` is a guess: correct it.",
        f"name: {quoted(name)}",
        "kind: text-classification",
        f"description: {quoted(f'Texts of {grid.file.name}.')}  # proposed: say what the texts are and who writes them",
        "labels:  # a phrase each helps the teacher: {name: refund, description: wants money back}",
        *(f"  - {quoted(one)}  # {counts[one]:,} rows" for one in sorted(counts)),
        "data:",
        *(f"  {part}: {part}.jsonl" for part in ("train", "holdout") if parts[part]),
    ]
    if parts["unlabelled"]:
        lines.append(f"  # pool: unlabelled.jsonl  # {len(parts['unlabelled']):,} texts that the teacher can label")
    return TextDraft("\n".join(lines) + "\n", files, len(counts), len(texts) - len(rows))


def _position(grid: Grid, name: str) -> int:
    if name not in grid.names:
        raise FactoryError(f"{grid.file.name}: no column {shown(name)}{suggestion(name, grid.names)}")
    return grid.names.index(name)


def _line(text: str, label: str | None) -> str:
    row = {"text": text} if label is None else {"text": text, "label": label}
    return json.dumps(row, ensure_ascii=False) + "\n"
