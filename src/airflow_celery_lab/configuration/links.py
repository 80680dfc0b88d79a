"""The links between workers and the servers that they need, and what is wrong with them: data."""

from __future__ import annotations

from typing import NamedTuple


class Condition(NamedTuple):
    """How a link is."""

    delay: float = 0.0  #: seconds that everything takes to get across, each way
    cut: bool = False  #: nothing gets across, and nobody is told

    @property
    def text(self) -> str:
        """The condition in a word or two."""
        if self.cut:
            return "cut"
        return f"slow, {self.delay * 1000:g} ms each way" if self.delay else "clean"


CLEAN = Condition()
