from __future__ import annotations

import resource
import sys

import pytest

from airflow_celery_lab.inside_airflow import frames

#: Calls a function makes in a loop, and the depths at which it stands; somewhere among them is the end of a chunk.
CALLS, DEPTHS = 50, 300


def _leaf(one: int, two: int, three: int) -> int:
    return one + two + three


def _loop(depth: int) -> None:
    if depth:
        _loop(depth - 1)
        return
    for _ in range(CALLS):
        _leaf(1, 2, 3)


def _faults() -> int:
    """Return how often Linux had to give memory to a loop, at all depths together."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for depth in range(DEPTHS):
        _loop(depth)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.version_info < (3, 11) or sys.platform != "linux", reason="frames are kept otherwise")
def test_no_call_gets_memory_from_the_system_and_gives_it_back() -> None:
    assert _faults() > 4 * CALLS
    assert frames.in_one_chunk(_faults) < CALLS


def test_what_the_function_returns_and_raises_comes_out() -> None:
    def fail() -> int:
        raise ValueError

    assert frames.in_one_chunk(lambda: 7) == 7
    with pytest.raises(ValueError):  # noqa: PT011  # whatever it says
        frames.in_one_chunk(fail)
