"""What was typed at a prompt, and what it means. A reply that makes no sense comes with a sentence of help."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from string import ascii_lowercase
from typing import NamedTuple

from airflow_celery_lab.configuration.services import LAUNCHERS

#: Words that leave the tour.
LEAVE = ("q", "quit", "exit")


class Reply(NamedTuple):
    """A line that was typed."""

    number: int | None = None  #: that was chosen
    leaves: bool = False
    help: str = ""  #: why it makes no sense, and what does


def prediction(line: str, answers: int) -> Reply:
    """Return what a line means where one of so many answers is asked for, each by its letter."""
    letters = [letter(number) for number in range(1, answers + 1)]
    word = line.strip().rstrip(".)").lower()
    if word in letters:
        return Reply(letters.index(word) + 1)
    told = f"{', '.join(letters[:-1])} or {letters[-1]}" if answers > 1 else letters[0]
    return _common(line) or Reply(help=f"Type {told}, or press Enter to see without a prediction; q leaves.")


def letter(number: int) -> str:
    """Return the letter of an answer, by its number from 1."""
    return ascii_lowercase[number - 1]


def command(line: str, me: str, words: Sequence[str]) -> Reply:
    """Return what a line means where a command is to be run: `words`, after the lab's own name, `me`."""
    if common := _common(line):
        return common
    try:
        typed = shlex.split(line.strip().removeprefix("$"))
    except ValueError:
        typed = []
    own = shlex.split(me)
    if typed[: len(own)] == own:
        typed = typed[len(own) :]
    elif typed and typed[0].rpartition("/")[2] in LAUNCHERS:
        typed = typed[1:]
    if typed == list(words):
        return Reply()
    return Reply(help="Press Enter to run the command, or type it as it stands there; other commands go into a second terminal. q leaves.")


def onward(line: str) -> Reply:
    """Return what a line means where nothing but Enter is asked for."""
    return _common(line) or Reply(help="Press Enter to go on; q leaves.")


def _common(line: str) -> Reply | None:
    word = line.strip().lower()
    if not word:
        return Reply()
    return Reply(leaves=True) if word in LEAVE else None
