"""The columns of a delimited file: by PyArrow, or by Python's csv module where PyArrow would read it otherwise."""

from collections.abc import Iterable, Iterator, Sequence

from zoo.data.datasets import column_spool, delimited, delimited_records
from zoo.data.datasets.column_spool import ColumnSpool
from zoo.data.datasets.delimited_format import BLANKS

# Rows that are Python objects at once.
_BLOCK = 1 << 14


def slow(table: delimited.Delimited, in_memory: int = column_spool.IN_MEMORY) -> ColumnSpool:
    """The columns by Python's csv module; errors have their lines."""
    import pyarrow as pa

    spool = ColumnSpool(str(table.path), table.header, in_memory)
    for block in _blocks(fields for _, fields in table.rows()):
        spool.add([trimmed(pa.array(fields, pa.string())) for fields in zip(*block)])
    return spool


def fast(table: delimited.Delimited, in_memory: int = column_spool.IN_MEMORY) -> ColumnSpool | None:
    """The columns by PyArrow; None where it would read the file otherwise than `delimited`, or cannot."""
    import pyarrow as pa
    import pyarrow.csv as csv

    dialect = table.dialect
    first = next(delimited_records.records(table.path, dialect))
    if dialect.blanks or not dialect.delimiter.isascii() or dialect.delimiter == BLANKS:
        return None
    if first.first != dialect.skip + 1 or any("\n" in name for name in first.fields):
        return None
    if len(first.fields) < len(table.header):
        return None
    names = [str(number) for number in range(len(first.fields))]
    options = {
        "read_options": csv.ReadOptions(
            skip_rows=dialect.skip + dialect.has_header, column_names=names, encoding=dialect.encoding
        ),
        "parse_options": csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char='"' if dialect.quoted else False,
            newlines_in_values=dialect.quoted,
        ),
        "convert_options": csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    }
    spool = ColumnSpool(str(table.path), table.header, in_memory)
    try:
        with csv.open_csv(table.path, **options) as batches:
            empty = _collect(batches, spool, len(table.header))
    except (pa.ArrowException, OSError, ValueError):
        return None
    if empty is None:
        return None
    release_memory()
    if empty:
        table.notes.append(f"{table.path}: left out {empty:,} rows of empty cells at the end")
    return spool


def _collect(batches: Iterable, spool: ColumnSpool, named: int) -> int | None:
    """Adds batches of rows to a spool, without the rows of empty cells at the end.

    Args:
        batches: record batches of texts.
        spool: gets the first columns, those that have names.
        named: number of these.

    Returns:
        Number of rows of empty cells; None where a column without a name has a text.
    """
    # A batch waits for the next row with a text.
    waiting: list = []
    for batch in batches:
        columns = [trimmed(column) for column in batch.columns]
        if any(_has_text(column) for column in columns[named:]):
            return None
        if waiting and any(_has_text(column) for column in columns):
            for each in waiting:
                spool.add(each)
            waiting = []
        waiting.append(columns[:named])
    if not waiting:
        return 0
    # Of those that wait only the first may have rows with texts.
    first, size = waiting[0], len(waiting[0][0])
    if named == 1:
        for each in waiting:
            spool.add(each)
        return 0
    while size and not any(column[size - 1].as_py() for column in first):
        size -= 1
    spool.add([column.slice(0, size) for column in first])
    return sum(len(each[0]) for each in waiting) - size


def _has_text(column) -> bool:
    """Whether a text of a column without blanks around its texts is not empty."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.greater(pc.binary_length(column), 0)).as_py())


def trimmed(chunk):
    """An array of texts without blanks around them."""
    import pyarrow.compute as pc

    # Most chunks need no copy.
    has_blanks = pc.any(pc.match_substring_regex(chunk, r"^\s|\s$")).as_py()
    return pc.utf8_trim_whitespace(chunk) if has_blanks else chunk


def _blocks(rows: Iterator[Sequence[str]]) -> Iterator[list]:
    block: list = []
    for row in rows:
        block.append(row)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


def release_memory() -> None:
    """Gives what PyArrow no longer uses back to the system; its pool would keep it for later."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
