from __future__ import annotations

import pytest

from airflow_celery_lab.launcher import markers

FORMER = [markers.beginning("web"), "an old word", markers.end(1)]


@pytest.mark.parametrize(
    ("lines", "life"),
    [
        ([], []),
        (["in the middle", "of a life"], ["in the middle", "of a life"]),
        ([*FORMER], ["an old word"]),
        ([*FORMER, markers.beginning("web"), "new", markers.end(3)], ["new"]),
        ([*FORMER, markers.beginning("web"), markers.end(3)], []),
        ([*FORMER, "sh: 1: ./lab: not found"], ["sh: 1: ./lab: not found"]),
        ([*FORMER, markers.beginning("web"), "killed", markers.beginning("web"), "new"], ["new"]),
    ],
)
def test_only_the_last_life_of_a_process_speaks(lines: list[str], life: list[str]) -> None:
    assert markers.last_life(lines) == life
