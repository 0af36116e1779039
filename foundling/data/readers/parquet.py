"""Reads parquet files: a row is a row."""

from collections.abc import Iterator

from foundling.data.documents import Document
from foundling.data.faults import SourceError
from foundling.data.readers.fields import Row, documents_of, no_field
from foundling.data.readers.source_file import SourceFile


def read(file: SourceFile) -> Iterator[Document | SourceError]:
    return documents_of(rows(file, file.text_field), file.text_field)


def rows(file: SourceFile, column: str | None = None) -> Iterator[Row | SourceError]:
    """The rows with all their columns, or with the one that is named."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file.name) as table:
            names = table.schema_arrow.names
            if column is not None and column not in names:
                raise no_field(file.name, column, names)
            columns = None if column is None else [column]
            for batch in table.iter_batches(batch_size=256, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.name}#{number}", row
                file.bytes_read = (file.size or 0) * number // max(1, table.metadata.num_rows)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        line = " ".join(str(error).split())
        raise SourceError("corrupt file", f"{file.name}: not readable as parquet: {line}") from None
