"""What the rounds come to: medians, spreads, and the ratio of the lab to the Procfile by hand, round by round."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median

from rich.table import Table
from rich.text import Text

from bench import figures
from bench.figures import Figure

FIGURES = [value for value in vars(figures).values() if isinstance(value, Figure)]
BY_NAME = {figure.name: figure for figure in FIGURES}
#: The rows' order is that of the steps.
LAB, BASE = "lab", "by hand"
#: Cells of a bar whose ratio is 1.
HALF = 20


@dataclass
class Round:
    """One contestant, once, from an empty folder."""

    contestant: str
    number: int
    values: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  #: by step, why it gave no figures


def machine() -> dict[str, str]:
    """Return what a reader must know to compare figures."""
    packages = ("apache-airflow-core", "apache-airflow-providers-celery", "celery", "flower", "honcho", "redis", "psycopg2-binary")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "Python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def ratio(rounds: Sequence[Round], name: str) -> float | None:
    """Return the median over the rounds of the lab's figure, divided by that of the Procfile by hand in the same round."""
    by_number: dict[int, dict[str, float]] = {}
    for one in rounds:
        if name in one.values:
            by_number.setdefault(one.number, {})[one.contestant] = one.values[name]
    ratios = [values[LAB] / values[BASE] for values in by_number.values() if LAB in values and values.get(BASE)]
    return median(ratios) if ratios else None


def table(rounds: Sequence[Round]) -> Table:
    """Return a row a figure: each contestant's median with its spread, the ratio, and what to reach."""
    names = list(dict.fromkeys(one.contestant for one in rounds))
    drawn = Table("figure", *names, "ratio", "to reach", box=None)
    for figure in FIGURES:
        values = {
            name: [one.values[figure.name] for one in rounds if one.contestant == name and figure.name in one.values] for name in names
        }
        if any(values.values()):
            found = ratio(rounds, figure.name)
            cells = [_spread(values[name], figure.unit) for name in names]
            drawn.add_row(figure.name, *cells, "" if found is None else f"{found:.2f}", _target(figure))
    return drawn


def markdown(rounds: Sequence[Round]) -> str:
    """Return the same table for a page."""
    return as_markdown(table(rounds))


def as_markdown(drawn: Table) -> str:
    """Return a table for a page."""
    lines = [[str(column.header) for column in drawn.columns], ["---"] * len(drawn.columns)]
    lines += [[str(cell) for cell in row] for row in zip(*(list(column.cells) for column in drawn.columns), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def picture(rounds: Sequence[Round]) -> Table:
    """Return the ratios as bars: the lab's figure, where that of the Procfile by hand is the line in the middle."""
    drawn = Table("", "", "lab / by hand", box=None, pad_edge=False)
    for figure in FIGURES:
        found = ratio(rounds, figure.name)
        if found is not None:
            better = found >= 1 if figure.more_is_better else found <= 1
            bar = Text("█" * round(found * HALF), style="green" if better else "red")
            bar.pad_right(max(0, 2 * HALF - len(bar)))
            # The line at 1, in the bar or behind it.
            bar = bar[:HALF] + Text("┃", style="bold white") + bar[HALF + 1 :]
            drawn.add_row(figure.name, bar, f"{found:.2f}{'  (more is better)' if figure.more_is_better else ''}")
    return drawn


def failures(rounds: Sequence[Round]) -> list[str]:
    """Return a line a step that gave no figures."""
    return [f"{one.contestant}, round {one.number}, {step}: {why}" for one in rounds for step, why in one.failures.items()]


def as_json(rounds: Sequence[Round]) -> Mapping[str, object]:
    """Return all that was measured, for a file."""
    return {"machine": machine(), "rounds": [vars(one) for one in rounds]}


def _spread(values: Sequence[float], unit: str) -> str:
    if not values:
        return "-"
    digits = next(
        digits for digits, most in ((3, 0.2), (2, 1), (1, 100), (0, math.inf)) if median(values) < most
    )  # as many as mean something
    middle, least, most = (f"{number:.{digits}f}" for number in (median(values), min(values), max(values)))
    return f"{middle} {unit}" + (f" ({least}-{most})" if len(values) > 1 else "")


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    bound = "at least" if figure.more_is_better else "at most"
    return f"{bound} {figure.target:g}{f' {figure.unit}' if figure.absolute else ''}"
