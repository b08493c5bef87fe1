"""Strategy `rows`: the teacher writes rows of a table that look like real ones.

Every prompt asks for rows of one label, shows other real rows of it, and gives some cells of each row to be written,
drawn from what real rows of the label have: left alone, a language model writes the same few numbers again and again.
The columns are the schema of the answer, the given cells the first of it, so that the others follow from them. Labels
in turn and real rows as examples as in Kim et al., "EPIC: Effective Prompting for Imbalanced-Class Data Synthesis in
Tabular Data Classification via Large Language Models", NeurIPS 2024, arXiv:2404.12404. What comes is checked here
against the types, ranges and rules of the spec; `factory.students.tables.curate` says what is worth learning from.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from factory.errors import FactoryError
from factory.events import Progressed, emit
from factory.prompts import render
from factory.records import Origin, Rejection, Rows, column_of, split
from factory.records_table import table_dataset
from factory.spec import Model
from factory.spec_table import Table
from factory.store import Stage
from factory.synthesis.row_shapes import Shape, as_json, draw_cells, rows_schema
from factory.tables.cells import arrow_type, read_cells
from factory.tables.rules import parse_rule
from factory.teacher import Abstain, Message, Reply, Request, Teacher
from factory.teacher.forecast import Forecast, forecast
from factory.teacher.missing import note_missing
from factory.teacher.repair import REPAIR, ask_and_read

PROMPTS = Path(__file__).parent / "prompts"
SYSTEM = PROMPTS / "rows_system.v1.jinja"
USER = PROMPTS / "rows_user.v1.jinja"
NAME = "rows"
CHARS_PER_TOKEN = 2
"""Of cells in JSON, at least."""
TEMPERATURE = 0.9
LEAST_REAL = 2
"""Rows of a label that can be shown."""


class RowsOptions(Model):
    """What a spec may set."""

    per_label: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Rows to ask for of each label."""
    per_prompt: Annotated[int, Field(ge=1, le=10)] = 2
    """Rows that one prompt asks for."""
    examples: Annotated[int, Field(ge=1, le=20)] = 3
    """Real rows that it shows; the embedded teacher has room for about five rows of twenty columns, both together."""
    given: Annotated[int, Field(ge=0, le=50)] = 3
    """Cells of each row that are drawn beforehand."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of a written row in training, where a real one has 1."""
    least_confidence: Annotated[float, Field(ge=0, le=1)] = 0.2
    """See `factory.students.tables.curate`."""
    least_uncertainty: Annotated[float, Field(ge=0, le=0.25)] = 0.15
    """See `factory.students.tables.curate`."""


class WriteRowsParams(Model):
    """What writing depends on."""

    description: str
    table: Table
    """Of a classification."""
    seed: int
    options: RowsOptions = RowsOptions()


@dataclass(frozen=True)
class _Asked:
    """One prompt, the label it asks for and the real rows it shows."""

    label: str
    request: Request
    parents: tuple[str, ...]
    n_rows: int


def write_rows(params: WriteRowsParams, *, real: Rows, teacher: Teacher) -> Rows:
    """Let the teacher write rows of every label.

    Args:
        params: Description, columns, how many rows.
        real: Labelled rows to show and to draw cells from, two of each label at least.
        teacher: Whom to ask.

    Returns:
        Kept rows have the label they were written for and the ids of the rows shown as parents. Rejected are those with
        a cell that its column cannot hold, or that break a rule, and replies that could not be read twice (a row
        without cells). `is_complete` is false when the budget ended first or the teacher was out of reach.

    Raises:
        FactoryError: The table is that of a regression, or a label has too few rows.
    """
    asked = _prompts(params, real)
    n_done = 0

    def count(_position: int, _answer: Reply | Abstain) -> None:
        nonlocal n_done
        n_done += 1
        emit(Progressed(NAME, n_done, len(asked), "calls"))

    most_tokens = max((2 * one.request.max_tokens for one in asked), default=0)
    answers = ask_and_read(teacher, [one.request for one in asked], _rows_in, most_tokens=most_tokens, on_reply=count)
    raw: list[Mapping[str, Any]] = []
    facts: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    unread: dict[int, Rejection] = {}
    for one, answered in zip(asked, answers, strict=True):
        fact = (one.label, one.parents, answered.replies)
        if isinstance(answered.answer, Abstain):
            if not answered.answer.may_pass:
                unread[len(raw)] = Rejection(f"abstain-{answered.answer.reason}")
                raw.append({})
                facts.append(fact)
            continue
        raw += answered.answer[: one.n_rows]
        facts += [fact] * len(answered.answer[: one.n_rows])
    made = _checked(params, raw, facts, unread, teacher.identity)
    return note_missing(made, [one.answer for one in answers])


def forecast_rows_written(params: WriteRowsParams, real: Rows | None) -> Forecast:
    """Estimate what writing would cost; without real rows cells are guessed to be short."""
    if real is not None and len(real.kept):
        asked = _prompts(params, real)
        n_tokens = sum(one.request.max_tokens for one in asked) / max(1, len(asked)) / 2
        return forecast([one.request for one in asked], completion_tokens=n_tokens)
    options = params.options
    n_calls = -(-options.per_label // options.per_prompt) * len(params.table.labels)
    row = sum(len(column.name) + 12 for column in params.table.columns) // CHARS_PER_TOKEN
    n_read = row * (options.examples + len(params.table.columns))
    return Forecast(n_calls, n_calls * n_read, n_calls * row * options.per_prompt, n_calls * row * options.examples)


def _prompts(params: WriteRowsParams, real: Rows) -> list[_Asked]:
    """Write the prompts, label by label; each with a draw of its own."""
    table, options = params.table, params.options
    if not table.labels:
        raise FactoryError("rows: expected a classification, got a regression", hint="leave synthesis.strategies empty")
    labels, ids = real.kept["label"][:], real.kept["id"][:]
    rows = column_of(real.kept, "features").to_pylist()
    columns = [
        {"name": json.dumps(column.name, ensure_ascii=False), "phrase": column.phrase} for column in table.columns
    ]
    system = Message("system", render(SYSTEM, description=params.description, columns=columns))
    found: list[_Asked] = []
    for label in table.labels:
        own = [position for position, one in enumerate(labels) if one == label.name]
        if len(own) < LEAST_REAL:
            raise FactoryError(
                f"rows: expected at least {LEAST_REAL} rows of each label to show, got {len(own)} of {label.name!r}",
                hint="label some more, or leave synthesis.strategies empty",
            )
        rng = np.random.default_rng([params.seed, *label.name.encode()])
        shapes = {
            column.name: Shape.of(column, [rows[position][column.name] for position in own]) for column in table.columns
        }
        left = options.per_label
        while left > 0:
            n_rows = min(left, options.per_prompt)
            left -= n_rows
            shown = [own[at] for at in rng.permutation(len(own))[: options.examples]]
            drawn = [draw_cells(table, shapes, options.given, rng) for _ in range(n_rows)]
            examples = [as_json(rows[position]) for position in shown]
            told = render(
                USER,
                label=label.name,
                phrase=label.phrase,
                examples=examples,
                cases=[as_json(given) for given in drawn],
            )
            request = Request(
                messages=(system, Message("user", told)),
                max_tokens=n_rows * (max(map(len, examples)) // CHARS_PER_TOKEN + 10) + 20,
                schema=rows_schema(table, shapes, drawn),
                sampling_temperature=TEMPERATURE,
                sample=len(found),
            )
            found.append(_Asked(label.name, request, tuple(ids[position] for position in shown), n_rows))
    return found


def _rows_in(reply: Reply) -> list[Mapping[str, Any]] | Abstain:
    """Read the rows of a reply; those of one that was cut off cannot be told apart from unfinished ones."""
    if reply.finish_reason == "length":
        return Abstain("truncated", reply.text)
    try:
        answer = json.loads(reply.text)
    except (ValueError, RecursionError):
        return Abstain("unparseable", reply.text)
    rows: list[Mapping[str, Any]] = (
        [row for row in answer.values() if isinstance(row, dict)] if isinstance(answer, dict) else []
    )
    return rows or Abstain("unparseable", reply.text)


def _checked(
    params: WriteRowsParams,
    raw: Sequence[Mapping[str, Any]],
    facts: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]],
    unread: Mapping[int, Rejection],
    teacher: str,
) -> Rows:
    """Turn what was read into typed rows, and reject what the spec excludes."""
    import pyarrow as pa

    table, rejections = params.table, dict(unread)
    cells = {}
    for column in table.columns:
        values = [row.get(column.name) for row in raw]
        cells[column.name], wrong = read_cells(column, values) if raw else (pa.array([], arrow_type(column.kind)), [])
        for position, _ in wrong:
            rejections.setdefault(position, Rejection(f"wrong-cell: {column.name}"))
    for text in table.rules if raw else ():
        for position in np.flatnonzero(parse_rule(text, table.columns).broken(cells, len(raw)).is_false).tolist():
            rejections.setdefault(position, Rejection(f"breaks-rule: {text}"))
    rows = table_dataset(
        cells,
        pa.array([label for label, _, _ in facts], pa.string()),
        origin=Origin.SYNTHETIC,
        strategy=NAME,
        teacher=teacher,
        weight=params.options.weight,
        parents=pa.array([list(parents) for _, parents, _ in facts], pa.list_(pa.string())),
        replies=pa.array([list(replies) for _, _, replies in facts], pa.list_(pa.string())),
    )
    return split(rows, rejections, by=NAME)


WRITE_ROWS: Stage[Rows] = Stage(NAME, 2, WriteRowsParams, write_rows, Rows, files=(SYSTEM, USER, REPAIR))
