"""Reads parquet files: one document in a column of each row."""

from collections.abc import Iterator

from foundling.data.documents import Document
from foundling.data.faults import SourceError
from foundling.data.readers.rows import document_of, no_field
from foundling.data.readers.source_file import SourceFile


def read(file: SourceFile) -> Iterator[Document | SourceError]:
    import pyarrow
    import pyarrow.parquet

    column, number = file.text_field, 0
    try:
        with pyarrow.parquet.ParquetFile(file.name) as table:
            names = table.schema_arrow.names
            if column not in names:
                raise no_field(file.name, column, names)
            for batch in table.iter_batches(batch_size=256, columns=[column]):
                for value in batch.column(0):
                    number += 1
                    yield document_of(f"{file.name}#{number}", {column: value.as_py()}, column)
                file.bytes_read = (file.size or 0) * number // max(1, table.metadata.num_rows)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        line = " ".join(str(error).split())
        raise SourceError("corrupt file", f"{file.name}: not readable as parquet: {line}") from None
