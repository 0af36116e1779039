"""Two answers on one screen, beside or below each other."""

import io
from collections.abc import Iterator

from rich.console import Console
from terminals import TEXT

from foundling.cli.chat_answers import Answers, Columns, show


def drawn(pieces: list[tuple[int, str | None]], width: int, names: list[str]) -> str:
    """The screen's lines after the answers, which come as these pieces."""
    screen = io.StringIO()
    show(Pieces(pieces), names, Console(file=screen, width=width))
    return screen.getvalue()


class Pieces(Answers):
    """Answers in a fixed order."""

    def __init__(self, pieces: list[tuple[int, str | None]]) -> None:
        super().__init__([], lambda: None)
        self.pieces = pieces

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        return iter(self.pieces)


BOTH: list[tuple[int, str | None]] = [
    (1, "the rain "), (0, "the sun\n"), (1, "in the\x1b[2J village"), (1, None), (0, "on the hill"),
    (0, None),
]  # fmt: skip


def test_two_answers_stand_in_columns_where_they_fit() -> None:
    lines = drawn(BOTH, 90, ["first", "second"]).splitlines()
    assert [[part.strip() for part in line.split("│")] for line in lines] == [
        ["first", "second"],
        ["the sun", "the rain in the␛[2J village"],
        ["on the hill", ""],
        [""],
    ]
    assert len({line.index("│") for line in lines[:-1]}) == 1


def test_two_answers_stand_below_each_other_where_they_do_not_fit() -> None:
    assert drawn(BOTH, 60, ["first", "second"]).splitlines() == [
        "first", "the sun", "on the hill", "", "second", "the rain in the␛[2J village", "",
    ]  # fmt: skip


def test_rows_that_are_given_never_change() -> None:
    """However the texts come, the settled rows are those of the whole texts."""
    console = Console(file=io.StringIO(), width=2 * 12 + 5, height=8)
    texts = (TEXT * 2, f"{TEXT}\n\n" + "w" * 40 + " 天気予報 " * 8)
    for step in (1, 3, 11):
        columns, rows = Columns(["a", "b"], console), list[str]()
        for start in range(0, max(map(len, texts)), step):
            for which, text in enumerate(texts):
                if piece := text[start : start + step]:
                    columns.add(which, piece)
                if start < len(text) <= start + step:
                    columns.add(which, None)
            rows += [row.plain for row in columns.settled()]
            assert len(columns.open().plain.splitlines()) <= 8
        whole = Columns(["a", "b"], console)
        for which, text in enumerate(texts):
            whole.add(which, text)
            whole.add(which, None)
        assert rows == [row.plain for row in whole.settled()]
