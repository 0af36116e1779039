"""Reads data sets of the Hugging Face hub, named `hub:owner/name[:config][@split]`, as a stream."""

from collections.abc import Iterator

from foundling.data.readers.fields import Row, row_of, without_gaps
from foundling.data.readers.source_file import SourceFile
from foundling.data.source_errors import SourceError

_MARK = "hub:"


def is_on_hub(name: str) -> bool:
    return name.startswith(_MARK)


def rows(file: SourceFile) -> Iterator[Row | SourceError]:
    name, _, split = file.name.removeprefix(_MARK).partition("@")
    name, _, config = name.partition(":")
    try:
        import datasets
    except ImportError:
        raise SourceError(
            "missing package",
            f'{file.name}: needs the datasets package: pip install "foundling[hub]".',
        ) from None
    try:
        stream = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        for number, row in enumerate(stream, start=1):
            typed = {key: without_gaps(value) for key, value in row.items()}
            yield row_of(f"{file.name}#{number}", typed)
    except Exception as error:  # of several HTTP libraries and of datasets itself
        line = " ".join(str(error).split())
        raise SourceError("hub", f"{file.name}: {type(error).__name__}: {line}") from None
