"""A table that fits its terminal: where that is narrow, the least important columns are left out, and names stay whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

#: Cells between two columns.
GAP = 2
#: Cells in which a sentence can be read, two or three words a line.
SENTENCE = 18
#: Cells of a name that are left at least when it has to be cut.
STUMP = 12
CUT = "…"


class Column(NamedTuple):
    """One column, and what becomes of it where there is little room. The first one of a table holds its rows' names."""

    title: str
    leaves: int = 0  #: the lower, the earlier it is left out; 0: it stays
    cut: bool = False  #: its names are rather cut than left out
    right: bool = False
    sentence: bool = False  #: goes on in the next line
    names: bool = False  #: several, each with a comma and a space behind it; goes on in the next line after one of them


class Fitted:
    """A table whose columns are chosen when it is printed."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[list[Text]] = []

    def add(self, *cells: str | Text) -> None:
        """Add a row: one cell a column."""
        self._rows.append([cell if isinstance(cell, Text) else Text(visible(cell)) for cell in cells])

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Print the columns that fit; Rich calls this."""
        cells = [[column.title, *(row[index].plain for row in self._rows)] for index, column in enumerate(self._columns)]
        widths = fit(self._columns, cells, options.max_width)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for index, width in widths.items():
            column = self._columns[index]
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                width=width,
                no_wrap=not (column.sentence or column.names),
                # A long word of a sentence, such as a path, goes on in the next line too.
                overflow="fold" if column.sentence else "ellipsis",
            )
        for row in self._rows:
            table.add_row(*(_shortened(row[index], width) if index == 0 else row[index] for index, width in widths.items()))
        yield table


def fit(columns: Sequence[Column], cells: Sequence[Sequence[str]], room: int) -> dict[int, int]:
    """Return the widths of the columns that are shown, by their numbers. `cells` has each column's texts; widths are in cells."""
    natural = [max(map(cell_len, texts)) for texts in cells]
    widths = {index: _whole(column, cells[index], natural[index]) for index, column in enumerate(columns)}
    for index in sorted(widths, key=lambda index: columns[index].leaves):
        least = {**widths, index: min(widths[index], STUMP)} if columns[index].cut else widths
        if columns[index].leaves and _excess(least, room) > 0:
            del widths[index]
    # The last resort: names are cut, those of the first column last.
    for index in sorted(widths, reverse=True):
        widths[index] = max(widths[index] - max(_excess(widths, room), 0), min(widths[index], STUMP))
    # What room is left goes to sentences and lists.
    for index, width in widths.items():
        widths[index] = min(natural[index], width + max(-_excess(widths, room), 0))
    return widths


def visible(text: str) -> str:
    """Return a text of a user's, such as the name of a queue, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _whole(column: Column, texts: Iterable[str], natural: int) -> int:
    """Return the width below which names would be cut, or a sentence become hard to read."""
    if column.names:
        return max(cell_len(word) for text in texts for word in text.split(" "))
    return min(natural, SENTENCE) if column.sentence else natural


def _excess(widths: Mapping[int, int], room: int) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1) - room


def _shortened(name: Text, width: int) -> Text:
    """Return a name without its middle where it is too long: `work[1]` and `work[10]` differ in their ends."""
    if name.cell_len <= width:
        return name
    tail = (width - 1) // 3
    end = chop_cells(name.plain[::-1], tail)[0][::-1]
    return Text(set_cell_size(name.plain, width - 1 - tail) + CUT + end, name.style)
