"""Parquet for bulk prediction: a row group at a time, and no more memory than its sizes promise.

A small file can stand for terabytes: pages that unpack to gigabytes, one long text that a dictionary repeats for each
row. What the footer declares is checked before anything is unpacked; texts stay dictionaries until their size is known.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.serving.bulk_formats import ANSWER_COLUMNS, PART_ROWS, Answers, Part, check_columns

MAX_GROUP_BYTES = 1 << 30
"""Unpacked size of a row group, as its footer declares it."""
MAX_PART_BYTES = 256 << 20
"""Of the texts of a part, once every row has its own."""
MAX_FIXED_BYTES = MAX_PART_BYTES // PART_ROWS
GROUP_ROWS = 131_072
"""Of the row groups that are written."""
HINT = "if you trust the file, write it anew in row groups of fewer rows"


@dataclass(frozen=True)
class Parquet:
    """A Parquet file; `label` and `probability` are added as its last columns."""

    source: Path
    column: str | None
    """Of the texts; None where whole rows of a table are asked."""
    answers: tuple[str, ...] = ANSWER_COLUMNS

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return int(self._footer.metadata.num_rows)

    def parts(self) -> Iterator[Part]:
        """Read the parts in order.

        Yields:
            A part for `PART_ROWS` rows of a row group.

        Raises:
            FactoryError: It is no Parquet file, has no such column, or would unpack to more than is allowed.
        """
        schema = self._footer.schema_arrow
        self._check_schema(schema)
        for group in range(self._footer.metadata.num_row_groups):
            self._check_group(group)
        number = 0
        texts = [column.path for column in self._leaves() if column.physical_type == "BYTE_ARRAY"]
        with self._open(read_dictionary=texts) as file:
            for group in range(file.metadata.num_row_groups):
                batches = file.iter_batches(batch_size=PART_ROWS, row_groups=[group], use_threads=False)
                for batch in self._readable(batches):
                    self._check_texts(batch, texts, group)
                    rows = _plain(batch, schema)
                    yield Part(number, rows, self._asked(rows))
                    number += 1

    def write(self, part: Part, answers: Answers, path: Path) -> None:
        """Write the rows with two more columns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = part.rows
        for name, kind in self._added():
            values = [None if answer is None else answer.get(name) for answer in answers]
            table = table.append_column(name, pa.array(values, kind))
        with path.open("wb") as file:
            pq.write_table(table, file)
            _sync(file)

    def join(self, paths: Sequence[Path], path: Path) -> None:
        """Write all parts into one file, in row groups of a size that is good to read."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._footer.schema_arrow
        for name, kind in self._added():
            schema = schema.append(pa.field(name, kind))
        with path.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
            some: list[Any] = []
            for one in paths:
                some.append(pq.read_table(one).cast(schema))
                n_bytes = sum(table.nbytes for table in some)
                if sum(map(len, some)) >= GROUP_ROWS or n_bytes >= MAX_PART_BYTES // 4:
                    writer.write_table(pa.concat_tables(some))
                    some = []
            if some:
                writer.write_table(pa.concat_tables(some))
            writer.close()
            _sync(file)

    def _added(self) -> list[tuple[str, Any]]:
        """Return the columns of the answers with their types."""
        import pyarrow as pa

        return [(name, pa.string() if name == "label" else pa.float64()) for name in self.answers]

    def _asked(self, rows: Any) -> list[Any]:
        """Return what is asked: the texts, or the rows as JSON has them."""
        try:
            if self.column is not None:
                texts: list[Any] = rows.column(self.column).to_pylist()
                return texts
            return [{name: _cell(cell) for name, cell in row.items()} for row in rows.to_pylist()]
        except UnicodeDecodeError as error:
            raise FactoryError(
                f"{self.source}: has a text that is not UTF-8: byte 0x{error.object[error.start]:02X}"
            ) from error

    @cached_property
    def _footer(self) -> Any:
        with self._open() as file:
            return file

    def _open(self, **options: Any) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.source, buffer_size=1 << 20, pre_buffer=False, **options)
        except pa.ArrowInvalid as error:
            raise FactoryError(f"{self.source}: expected a Parquet file: {_first_line(error)}") from error

    def _readable(self, batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        try:
            yield from batches
        except (pa.ArrowException, OSError) as error:
            raise FactoryError(f"{self.source}: cannot be unpacked: {_first_line(error)}") from error

    def _check_schema(self, schema: Any) -> None:
        check_columns(self.source, schema.names, self.column, self.answers)
        kind = schema.field(self.column).type if self.column is not None else None
        if kind is not None and not _is_text(kind):
            raise FactoryError(f"{self.source}: expected texts in column {self.column!r}, got {kind}")
        for column in self._leaves():
            is_nested = column.max_repetition_level > 0 or "." in column.path
            if is_nested and column.physical_type == "BYTE_ARRAY":
                raise FactoryError(
                    f"{self.source}: column {column.path!r} has texts or bytes inside lists or structures",
                    hint="leave it out: their size is known only once they are unpacked",
                )
            if column.physical_type == "FIXED_LEN_BYTE_ARRAY" and column.length > MAX_FIXED_BYTES:
                raise FactoryError(
                    f"{self.source}: column {column.path!r} has {column.length:,} bytes a row, more than "
                    f"{MAX_FIXED_BYTES:,}",
                    hint="leave it out",
                )

    def _leaves(self) -> list[Any]:
        """Return the columns as Parquet stores them: of a list or a structure, what is inside."""
        schema = self._footer.schema
        return [schema.column(at) for at in range(len(schema))]

    def _check_group(self, group: int) -> None:
        declared = self._footer.metadata.row_group(group)
        columns = [declared.column(at) for at in range(declared.num_columns)]
        n_bytes = sum(column.total_uncompressed_size for column in columns)
        n_values = max((column.num_values for column in columns), default=0)
        if max(n_bytes, declared.total_byte_size) > MAX_GROUP_BYTES or 8 * n_values > MAX_GROUP_BYTES:
            raise FactoryError(
                f"{self.source}: row group {group} of {declared.num_rows:,} rows unpacks to {n_bytes:,} bytes and "
                f"{n_values:,} values, more than {MAX_GROUP_BYTES:,} bytes",
                hint=HINT,
            )

    def _check_texts(self, batch: Any, texts: Sequence[str], group: int) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        n_bytes = 0
        for name in texts:
            column = batch.column(name)
            if not pa.types.is_dictionary(column.type):
                raise FactoryError(
                    f"{self.source}: column {name!r} is {column.type}: leave it out, or write it as text"
                )
            lengths = pc.binary_length(column.dictionary.cast("large_binary"))
            n_bytes += pc.sum(lengths.take(column.indices)).as_py() or 0
        if n_bytes > MAX_PART_BYTES:
            raise FactoryError(
                f"{self.source}: {len(batch):,} rows of row group {group} unpack to {n_bytes:,} bytes of text, "
                f"more than {MAX_PART_BYTES:,}",
                hint="a text is repeated, or rows are very long: cut them first",
            )


def _cell(value: Any) -> Any:
    """Return a cell as JSON has it: dates as text, a decimal as a number, NaN as nothing known."""
    if isinstance(value, float):
        return value if value == value else None
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    while pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain(batch: Any, schema: Any) -> Any:
    """Give columns the types they have in the file."""
    import pyarrow as pa

    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        is_packed = pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(field.type)
        columns.append((column.dictionary_decode() if is_packed else column).cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
