"""Reads parquet files: a row is a row."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

from foundling.data.readers.fields import Row, no_field, without_gaps
from foundling.data.readers.source_file import SourceFile
from foundling.data.source_errors import SourceError


def rows(file: SourceFile) -> Iterator[Row | SourceError]:
    """The rows with all their columns, or with the one that is needed."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with ExitStack() as opened:
            source: str | IO[bytes] = file.path
            if file.is_packed:  # it is read here and there, which a packed file cannot be
                source = opened.enter_context(tempfile.TemporaryFile())
                source.writelines(file.unpacked())
            table = opened.enter_context(pyarrow.parquet.ParquetFile(source))
            names, column = table.schema_arrow.names, file.column
            if column is not None and column not in names:
                column = column.split(".")[0]
                if column not in names:
                    raise no_field(file.name, str(file.column), names)
            columns = None if column is None else [column]
            kinds = dict(zip(names, table.schema_arrow.types, strict=True))
            nested = [n for n in columns or names if pyarrow.types.is_nested(kinds[n])]
            for batch in table.iter_batches(batch_size=256, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    row |= {name: without_gaps(row[name]) for name in nested}
                    yield f"{file.name}#{number}", row
                file.bytes_read = (file.size or 0) * number // max(1, table.metadata.num_rows)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        line = " ".join(str(error).split())
        raise SourceError("corrupt file", f"{file.name}: not readable as parquet: {line}") from None
