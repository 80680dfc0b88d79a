"""What the rounds of the bench come to."""

from __future__ import annotations

import io

from bench import figures, report
from bench.report import Round
from rich.console import Console

ROUNDS = [
    Round("lab", 1, {figures.CHAIN.name: 6.0, figures.TASKS.name: 9.0}),
    Round("by hand", 1, {figures.CHAIN.name: 10.0}, {"burst": "NotReadyError: noop_tasks: running"}),
    Round("lab", 2, {figures.CHAIN.name: 9.0, figures.TASKS.name: 11.0}),
    Round("by hand", 2, {figures.CHAIN.name: 10.0, figures.TASKS.name: 10.0}),
    Round("lab", 3, {figures.CHAIN.name: 8.0}),
    Round("by hand", 3, {figures.CHAIN.name: 4.0}),
]


def test_a_ratio_is_the_median_of_the_ratios_of_each_round_that_has_both() -> None:
    assert report.ratio(ROUNDS, figures.CHAIN.name) == 0.9
    assert report.ratio(ROUNDS, figures.TASKS.name) == 1.1
    assert report.ratio(ROUNDS, figures.READY_AGAIN.name) is None


def test_each_figure_has_a_row_with_medians_spreads_ratio_and_what_to_reach() -> None:
    assert "| chain of 8 tasks | 8.0 s (6.0-9.0) | 10.0 s (4.0-10.0) | 0.90 | at most 0.7 |" in report.markdown(ROUNDS)
    assert "| 100 tasks, warm | 10.0 tasks/s (9.0-11.0) | 10.0 tasks/s | 1.10 | at least 1.4 |" in report.markdown(ROUNDS)
    assert "ready again" not in report.markdown(ROUNDS)


def test_the_table_is_drawn() -> None:
    drawn = io.StringIO()
    Console(file=drawn, width=200).print(report.table(ROUNDS))

    assert "chain of 8 tasks" in drawn.getvalue()


def test_the_picture_has_a_bar_for_each_ratio_with_a_line_at_one() -> None:
    drawn = io.StringIO()
    Console(file=drawn, width=200).print(report.picture(ROUNDS))
    bars = {line.split("  ")[0]: line for line in drawn.getvalue().splitlines()}

    assert bars["chain of 8 tasks"].count("█") == 18
    assert bars["100 tasks, warm"].count("█") == 21
    assert {bar.count("┃") for name, bar in bars.items() if name.strip()} == {1}


def test_a_step_that_gave_no_figures_says_so() -> None:
    assert report.failures(ROUNDS) == ["by hand, round 1, burst: NotReadyError: noop_tasks: running"]
