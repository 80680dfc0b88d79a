"""What a launcher prints at the beginning and at the end of a process's life in the background, and what lies between."""

from __future__ import annotations

from collections.abc import Sequence

BEGINNING = "lab: starting "
END = "lab: ended with status "


def beginning(name: str) -> str:
    """Return the first line of a life."""
    return f"{BEGINNING}{name}"


def end(status: int) -> str:
    """Return the last line of a life."""
    return f"{END}{status}"


def last_life(lines: Sequence[str]) -> list[str]:
    """Return what the last life of a process has printed, given the end of its log.

    A life whose launcher did not start has no first line: the shell before it has said why.
    """
    life: list[str] = []
    ended = False
    for line in lines:
        if line.startswith(BEGINNING):
            life, ended = [], False
        elif line.startswith(END):
            ended = True
        elif ended:
            life, ended = [line], False
        else:
            life.append(line)
    return life
