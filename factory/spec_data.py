"""Which files of its folder a task has: the `data` of a spec."""

from typing import Annotated

from pydantic import Field

from factory.spec_base import Model

REVIEWED_FILE = "reviewed.jsonl"
"""Beside the spec, where it names no other: rows that people labelled in a review."""
ORDERED_FILE = "ordered.jsonl"
"""Beside the spec, where it names no other: texts that a model in use lacked."""
UNLABELLED = frozenset({"pool", "ordered"})
"""Data files, by key, whose rows need no label; one that is there is not read."""


class Data(Model):
    """Files of the task folder; every one is optional."""

    seeds: str | None = None
    """A few labelled examples written by people."""
    pool: str | None = None
    """Real texts without labels."""
    train: str | None = None
    """Real labelled rows to train on, beside what is made of them and written."""
    reviewed: str | None = None
    """What people said about rows: which label they have, which are never trained on; written by `factory review`.
    Default: `reviewed.jsonl`, where it exists."""
    ordered: str | None = None
    """Texts that a model in use lacked; written by `factory improve`. The teacher labels every one of them. Default:
    `ordered.jsonl`, where it exists."""
    ceiling: str | None = None
    """Real labelled rows that are not trained on: they give the ceiling the student is compared with."""
    calibration: str | None = None
    """Gold rows on which the thresholds of a cascade are chosen; nothing is trained on them."""
    holdout: str | None = None
    """Gold rows, read only by the final report."""
    licence: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Under which terms these files came, in words; the card of a release repeats it."""
