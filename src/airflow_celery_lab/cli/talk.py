"""What the tour says on a terminal of any width, and what it asks."""

from __future__ import annotations

import shutil
import sys
import termios
import textwrap
from collections.abc import Callable, Iterable
from contextlib import suppress

import typer
from rich.text import Text

from airflow_celery_lab.cli import tables
from airflow_celery_lab.tour.replies import Reply

#: Cells of a line of prose, at most and at least.
WIDEST, NARROWEST = 90, 20


class Talk:
    """A conversation; one without questions where nobody is asked."""

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks
        with suppress(AttributeError):  # Where something else than a file stands for it.
            sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]  # what is no text is a typing error

    def heading(self, text: str) -> None:
        """Say what begins."""
        self._print("")
        self.paragraph(text, "bold")

    def paragraph(self, text: str, style: str = "", indent: str = "", first: str | None = None) -> None:
        """Say some sentences; a name that is longer than a line stays in one piece, so that it can be clicked on and copied."""
        first = indent if first is None else first
        for line in textwrap.wrap(
            text, self._width(), initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ):
            self._print(line, style)

    def paragraphs(self, texts: Iterable[str]) -> None:
        """Say paragraphs, with an empty line before each."""
        for text in texts:
            self._print("")
            self.paragraph(text)

    def line(self, text: str, style: str = "") -> None:
        """Say a line that stays in one piece, however long it is."""
        self._print(text, style)

    def ask(self, prompt: str, meant: Callable[[str], Reply]) -> int | None:
        """Ask until the answer makes sense, and return the number that was chosen, if any; nothing is asked where nobody is.

        Raises:
            typer.Exit: the user leaves.

        """
        if not self._asks:
            return None
        while True:
            reply = meant(self._read(prompt))
            if reply.leaves:
                raise typer.Exit
            if not reply.help:
                return reply.number
            self.paragraph(reply.help)

    def _read(self, prompt: str) -> str:
        # What was typed while a command ran was not meant for this question.
        with suppress(termios.error, ValueError):
            termios.tcflush(sys.stdin, termios.TCIFLUSH)
        print(prompt, end=" ", flush=True)
        line = sys.stdin.readline()
        if not line.endswith("\n"):  # Ctrl-D
            self._print("")
        if not line:
            raise typer.Exit
        return line

    def _print(self, text: str, style: str = "") -> None:
        tables.console.print(Text(text, style), soft_wrap=True)

    def _width(self) -> int:
        columns = shutil.get_terminal_size((WIDEST, 24)).columns if sys.stdout.isatty() else WIDEST
        return max(min(columns - 1, WIDEST), NARROWEST)
