"""`factory init`: the first draft of a task folder, for a person to correct."""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.commands.options import DEFAULT_OUTPUTS, AsJson, Outputs, TaskFolder, print_json
from factory.errors import FactoryError

if TYPE_CHECKING:
    from factory.tables.drafting import Draft


class DecimalMark(StrEnum):
    """What 1,234 means."""

    POINT = "point"
    COMMA = "comma"


class DayOrder(StrEnum):
    """What 03/04/2024 means."""

    DAY_FIRST = "day-first"
    MONTH_FIRST = "month-first"


def init(
    folder: TaskFolder,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Rows: .csv, .tsv, .xlsx, .parquet or .jsonl.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="COLUMN", help="Of a table: the column to predict.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="Of texts: their column.")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="Of texts: their labels.")] = None,
    sheet: Annotated[str | None, typer.Option("--sheet", metavar="NAME", help="Which sheet of an .xlsx file.")] = None,
    decimal: Annotated[DecimalMark | None, typer.Option("--decimal", help="Which mark 1,234 and 1.234 have.")] = None,
    date_order: Annotated[DayOrder | None, typer.Option("--date-order", help="What 03/04/2024 means.")] = None,
    ask_teacher: Annotated[
        bool, typer.Option("--ask-teacher", help="Let the embedded teacher propose what columns mean, a call each.")
    ] = False,
    out: Outputs = DEFAULT_OUTPUTS,
    json_: AsJson = False,
) -> None:
    """Draft the spec of a task from a file of rows, for you to correct, and write the rows beside it.

    Examples:
        factory init tasks/loans --from loans.csv --target paid_back

        factory init tasks/sales --from sales.xlsx --sheet 2024 --target revenue

        factory init tasks/mail --from mail.csv --text body --label topic

        factory init tasks/mine
    """
    is_table, is_text = target is not None, text is not None or label is not None
    if source is None and (is_table or is_text):
        raise typer.BadParameter("name the file of rows with --from FILE")
    if source is not None and (is_table == is_text or (is_text and (text is None or label is None))):
        raise typer.BadParameter("give --target COLUMN for a table, or --text COLUMN and --label COLUMN for texts")
    if ask_teacher and not is_table:
        raise typer.BadParameter("--ask-teacher describes the columns of a table: give --from and --target")
    name, spec = _task_name(folder), folder / "spec.yaml"
    if source is None:
        from factory.tables.draft_texts import SKELETON

        write_folder(folder, {"spec.yaml": SKELETON.format(name=name)})
        told: dict[str, object] = {}
        lines = [f"{spec}: a text task to fill in"]
    else:
        from factory.tables.drafting import read_grid

        grid = read_grid(source, sheet)
        if text is not None and label is not None:
            from factory.tables.draft_texts import draft_texts

            drafted = draft_texts(grid, text, label, name)
            write_folder(folder, {"spec.yaml": drafted.spec, **drafted.files})
            repeated = f"; {drafted.n_repeated:,} repeated rows left out" if drafted.n_repeated else ""
            told = {"labels": drafted.n_labels, "repeated_rows": drafted.n_repeated}
            lines = [f"{spec}: texts with {drafted.n_labels} labels{repeated}"]
        elif target is not None:
            from factory.console import watching
            from factory.tables.drafting import draft_table
            from factory.tables.guessing import Hints

            hints = Hints(decimal and decimal.value, date_order and date_order.value)  # type: ignore[arg-type]
            with watching(quiet=json_):
                draft = draft_table(grid, target, hints)
            _refuse_existing(folder)  # before anybody is asked
            said = _ask(draft, out) if ask_teacher else {}
            write_folder(folder, table_files(draft, name, said))
            told = table_as_json(draft)
            lines = table_lines(spec, draft, n_described=len(said) if ask_teacher else None)
            for warning in draft.warnings:
                typer.echo(f"warning: {warning}", err=True)
    if json_:
        print_json({"spec": str(spec), **told})
        return
    typer.echo("\n".join([*lines, f"next: read and correct {spec}, then: factory check {folder}"]))


def table_files(draft: "Draft", name: str, said: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the content of each file of a table task, by name; the spec first."""
    from factory.tables.draft_yaml import draft_yaml

    parts = {"train": draft.train, "holdout": draft.holdout, "unlabelled": draft.unlabelled}
    rows = {f"{part}.jsonl": draft.lines(picked) for part, picked in parts.items() if picked}
    return {"spec.yaml": draft_yaml(draft, name, said), **rows}


def _ask(draft: "Draft", out: Path) -> dict[str, dict[str, str]]:
    from factory.labelling.describing import describe_columns
    from factory.spec import TeacherSpec
    from factory.teacher import open_teacher

    teacher = open_teacher(TeacherSpec(), folder=Path(), outputs=out)
    try:
        return describe_columns(draft, teacher)
    finally:
        teacher.close()


def _task_name(folder: Path) -> str:
    """Make a task name of the folder's."""
    from factory.spec_checks import RESERVED_NAMES, SAFE_NAME

    name = re.sub(r"[^a-z0-9_-]+", "_", folder.resolve().name.casefold()).strip("_-")[:64]
    return name if SAFE_NAME.fullmatch(name) and name not in RESERVED_NAMES else f"task_{name}".rstrip("_")[:64]


def write_folder(folder: Path, files: dict[str, str]) -> None:
    """Write the files of a task folder, never over others.

    Args:
        folder: Made if it is not there.
        files: Content by name; the spec first. It is written last: a folder with a spec is complete.

    Raises:
        FactoryError: One of them is there already.
    """
    _refuse_existing(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in reversed(files.items()):
        with (folder / file).open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(content)


def _refuse_existing(folder: Path) -> None:
    taken = ("spec.yaml", "train.jsonl", "holdout.jsonl", "unlabelled.jsonl")
    there = next((folder / file for file in taken if (folder / file).exists()), None)
    if there is not None:
        raise FactoryError(f"{there}: is there already, and nothing is overwritten", hint="name another folder")


def table_as_json(draft: "Draft") -> dict[str, object]:
    """Return what was decided, for programs."""
    return {
        "kind": draft.kind.value,
        "rows": {"train": len(draft.train), "holdout": len(draft.holdout), "unlabelled": len(draft.unlabelled)},
        "columns": {guess.name: guess.kind.value for guess in draft.columns},
        "left_out": dict(draft.left_out),
        "warnings": list(draft.warnings),
    }


def table_lines(spec: Path, draft: "Draft", *, n_described: int | None) -> list[str]:
    """Say what was decided.

    Args:
        spec: Where the draft was written.
        draft: The draft.
        n_described: Columns that the teacher described; None if it was not asked.

    Returns:
        Lines for a person.
    """
    lines = [f"{spec}: {draft.kind.value}, {len(draft.train):,} rows to train on, {len(draft.holdout):,} held out"]
    for guess in draft.columns:
        missing = f", {guess.n_missing:,} missing" if guess.n_missing else ""
        unit = f" in {guess.unit}" if guess.unit else ""
        lines.append(f"  {guess.name!r}: {guess.kind.value}{unit}{missing}")
    lines += [f"  {column!r}: left out: {reason}" for column, reason in draft.left_out.items()]
    if draft.unlabelled:
        lines.append(f"  {len(draft.unlabelled):,} rows without an answer: unlabelled.jsonl")
    if n_described is not None:
        lines.append(f"  the teacher described {n_described} of {len(draft.columns)} columns")
    return lines
