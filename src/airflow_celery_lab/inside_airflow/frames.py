"""Memory for the frames of Python's functions."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

Result = TypeVar("Result")
#: Slots of one frame, 1 MB. CPython gets 2 MB for a frame of this size, and what is left holds those of 1000 nested calls and more.
SLOTS = 1 << 17


def in_one_chunk(function: Callable[[], Result]) -> Result:
    """Call a function with memory for the frames of all that it calls in the same thread, and return what it returns.

    CPython (3.11 and later) keeps frames in chunks of 16 KB. A call for which the chunk has no room gets a new one from
    the system, and gives it back as it returns: 7 microseconds, for each call in a loop that happens to stand at the end of a
    chunk. In an empty task's process that was 800 calls. Memory that no frame has been in is never touched, and takes nothing.
    """
    result: Result = FunctionType(_call.__code__.replace(co_stacksize=SLOTS), {})(function)
    return result


def _call(function: Callable[[], Result]) -> Result:
    return function()
