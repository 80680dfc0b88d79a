"""The pages of docs/experiments: what an experiment asks and expects, and what a real run has measured. Text from data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_celery_lab.experiments.experiment import Experiment

#: The first line of each page.
ORIGIN = "<!-- docs/make-experiment-pages writes this page: the words are the experiment's, the figures those of a real run. -->"
#: Letters in a line of prose.
WIDTH = 120
MEASURED, WHY = "## Measured", "## Why"
#: Around the list of all experiments, in the page that has it.
BEGIN, END = "<!-- list of docs/make-experiment-pages -->", "<!-- end of the list -->"


def page(experiment: Experiment, measured: str, following: Experiment | None) -> str:
    """Return the page of an experiment; `measured` is what `measurements` returned, `following` the one to read next."""
    more = (
        f"Next: [{following.question}]({following.name}.md)"
        if following
        else "That was the last one: [all experiments](../experiments.md)."
    )
    parts = [
        ORIGIN,
        f"# {experiment.question}",
        _prose(f"`./lab experiment {experiment.name}` finds out, in about {experiment.seconds} s."),
        _prose(f"**Prediction.** {experiment.prediction}"),
        f"{MEASURED}\n\n{measured}",
        f"{WHY}\n\n{_prose(experiment.mechanism)}",
        _table(("setting", "does"), ((_code(setting.name), setting.does) for setting in experiment.settings)),
        "## Try this",
        "\n".join(_item(text) for text in experiment.next),
        more,
    ]
    return "\n\n".join(parts) + "\n"


def measurements(result: Mapping[str, Any], where: str, picture: str) -> str:
    """Return what was measured, from the content of `result.json`; `where` names machine and releases, `picture` the timelines."""
    checks = _table(("claim", "measured"), ((check["claim"], check["measured"]) for check in result["checks"]))
    numbers = [(name, "-" if number is None else f"{number:g}") for name, number in result["numbers"].items()]
    return "\n\n".join(
        [
            _prose(f"{result['verdict'].capitalize()}; {where}."),
            checks,
            _table(("", "number"), numbers, right=True),
            f"![Which slot ran which task, and when]({picture})",
        ]
    )


def measured_in(text: str) -> str:
    """Return what a page says was measured.

    Raises:
        ValueError: it says nothing of it.

    """
    start, end = text.index(f"{MEASURED}\n\n") + len(MEASURED) + 2, text.index(f"\n\n{WHY}\n")
    return text[start:end]


def listed(experiments: Sequence[Experiment]) -> str:
    """Return the list of all experiments, with its two marks."""
    rows = ((f"[`{one.name}`](experiments/{one.name}.md)", one.question, f"{one.seconds} s") for one in experiments)
    return f"{BEGIN}\n{_table(('experiment', 'question', 'takes about'), rows)}\n{END}"


def with_list(text: str, experiments: Sequence[Experiment]) -> str:
    """Return a page with the list of all experiments in the place of the one that it has.

    Raises:
        ValueError: it has none.

    """
    return text[: text.index(BEGIN)] + listed(experiments) + text[text.index(END) + len(END) :]


def _prose(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _item(text: str) -> str:
    return textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _code(name: str) -> str:
    return f"`{name}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = False) -> str:
    """Return a table; in a `right` one the last column is numbers."""
    lines = [head, ["---"] * (len(head) - 1) + ["---:" if right else "---"], *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(
        f"| {' | '.join(line)} |".replace("| --- ", "|---").replace("| ---: ", "|---:").replace("|  |", "| |") for line in lines
    )
