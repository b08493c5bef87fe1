"""Sheets of an .xlsx file: values as a person sees them, addresses as the program shows them, nothing computed.

A formula counts as the value that was saved with it; without one it is refused, and so are errors such as #DIV/0!.
"""

import re
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import FactoryError
from factory.spec_errors import listed, nearest, shown
from factory.tables.grid import Grid
from factory.tables.header import Block, RawRows, find_table

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

MOST_UNPACKED_BYTES = 400_000_000
"""Of all parts of the file, as its directory declares them; reading stops there even when it lies."""
MOST_PACKING = 500
"""How many times smaller a part of over a megabyte can be; sheets come to 10 or 20, a bomb to 1,000."""
MOST_CELLS = 5_000_000
MOST_MERGED = 1_000_000
"""Cells under merged ones; the library makes an object of each while it opens the file."""
_MERGED = re.compile(rb"<mergeCell [^>]*?ref=\"([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})\"")
_LITERAL = re.compile(r'"[^"]*"|\\.|_.')
"""What a number format only shows: after `0"%"` a cell of 12 is 12%, after `0%` it is 1200%."""


def read_sheet(file: Path, sheet: str | None) -> Grid:
    """Read one sheet.

    Args:
        file: An .xlsx file.
        sheet: Its name; None where only one has anything in it.

    Returns:
        The table.

    Raises:
        FactoryError: The file is none or too large, the sheet is missing or unclear, or a cell cannot be read.
    """
    has_formulas = _look_inside(file)
    page = _choose(file, _open(file, data_only=True), sheet)

    def where(row: int, column: int) -> str:
        from openpyxl.utils import get_column_letter

        return f"{file.name}: {page.title}!{get_column_letter(column + 1)}{row + 1}"

    if page.max_row * page.max_column > MOST_CELLS:
        hint = "clear the cells beside the table, or save it as CSV"
        raise FactoryError(f"{where(page.max_row - 1, page.max_column - 1)}: the sheet reaches to here", hint=hint)
    formulas = _open(file, data_only=False)[page.title] if has_formulas else None
    rows = [
        [_value(cell, formulas, where) for cell in cells]
        for cells in page.iter_rows(min_row=1, max_row=page.max_row, max_col=page.max_column)
    ]
    merged = tuple(
        Block(one.min_row - 1, one.min_col - 1, one.max_row - 1, one.max_col - 1) for one in page.merged_cells.ranges
    )
    return find_table(RawRows(file, rows, where, merged, is_strict=False))


def _look_inside(file: Path) -> bool:
    """Refuse what is no .xlsx file or would fill the memory; return whether it may hold formulas."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            n_bytes = sum(part.file_size for part in parts)
            bomb = any(part.file_size > max(1_000_000, MOST_PACKING * part.compress_size) for part in parts)
            if bomb or n_bytes > MOST_UNPACKED_BYTES:
                message = f"{file.name}: unpacks to {n_bytes:,} bytes, more than a table of this size has"
                raise FactoryError(message, hint="save the sheet as CSV")
            sheets = [part for part in parts if part.filename.startswith("xl/worksheets/")]
            if not any(part.filename == "xl/workbook.xml" for part in parts):
                raise FactoryError(f"{file.name}: is no .xlsx file", hint="save it as .xlsx or as CSV")
            has_formulas = False
            for part in sheets:
                content = archive.read(part)
                has_formulas |= b"<f" in content
                if sum(map(_n_merged, _MERGED.finditer(content))) > MOST_MERGED:
                    raise FactoryError(f"{file.name}: {part.filename}: too many merged cells", hint="unmerge them")
            return has_formulas
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        hint = "save it as .xlsx without a password, or as CSV"
        raise FactoryError(f"{file.name}: cannot be read as .xlsx: {error}", hint=hint) from error


def _n_merged(found: "re.Match[bytes]") -> int:
    from openpyxl.utils import column_index_from_string

    left, top, right, bottom = (one.decode() for one in found.groups())
    n_columns = column_index_from_string(right) - column_index_from_string(left) + 1
    return abs(int(n_columns)) * abs(int(bottom) - int(top) + 1)


def _open(file: Path, *, data_only: bool) -> "Workbook":
    import warnings

    from openpyxl import load_workbook

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions, which hold no values
            return load_workbook(file, data_only=data_only, keep_links=False)
    except OSError:
        raise
    except Exception as error:  # a broken part raises whatever its parser came upon
        first_line = str(error).partition("\n")[0][:200]
        raise FactoryError(f"{file.name}: cannot be read as .xlsx: {first_line}", hint="save it again") from error


def _choose(file: Path, book: "Workbook", sheet: str | None) -> "Worksheet":
    names = [page.title for page in book.worksheets]
    if sheet is not None:
        if sheet not in names:
            guess = nearest(sheet, names)
            hint = f"did you mean {shown(guess)}?" if guess else ""
            raise FactoryError(f"{file.name}: no sheet {shown(sheet)}, only {listed(names)}", hint=hint)
        return book[sheet]
    filled = [page for page in book.worksheets if page.max_row > 1 or page.max_column > 1 or page["A1"].value]
    if len(filled) != 1:
        what = f"{len(filled)} sheets have cells: {listed([page.title for page in filled])}" if filled else "is empty"
        raise FactoryError(f"{file.name}: {what}", hint="say which with --sheet NAME" if filled else "")
    return filled[0]


def _value(cell: Any, formulas: Any, where: Callable[[int, int], str]) -> Any:
    value = cell.value
    place = (cell.row - 1, cell.column - 1)
    if value is None and formulas is not None and formulas.cell(cell.row, cell.column).data_type == "f":
        hint = "open it in a spreadsheet program and save it, or paste values in place of formulas"
        raise FactoryError(f"{where(*place)}: a formula without a saved value", hint=hint)
    if cell.data_type == "e" and value != "#N/A":
        raise FactoryError(f"{where(*place)}: holds the error {value}", hint="mend or clear the cell")
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and "%" in _LITERAL.sub("", str(cell.number_format))
    ):
        return f"{value * 100:.12g}%"  # as it is shown
    if value is None or isinstance(value, str | int | float | bool | datetime | date):
        return value
    return str(value)  # a time of day, a duration
