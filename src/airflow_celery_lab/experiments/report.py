"""The page of a result, and the folder that it lies in with its data."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from string import Template

from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import StateFolderError
from airflow_celery_lab.experiments.experiment import Check, Result
from airflow_celery_lab.timeline import page as drawing
from airflow_celery_lab.timeline.spans import Timeline

TEMPLATE = Path(__file__).with_name("report.html")
#: What the page says of a check.
HOLDS = {True: "yes", False: "no", None: "not known"}


def write(state: State, result: Result) -> Path:
    """Write a result into a folder of its own in the state folder, and return the folder: `result.json` and `index.html`.

    Raises:
        StateFolderError: the disk does not take it.

    """
    folder = state.experiments / f"{result.experiment.name}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
    try:
        make_private_folder(state.experiments)
        folder.mkdir(mode=0o755, exist_ok=True)
        files.write(folder / "result.json", data(result), mode=0o644)
        files.write(folder / "index.html", page(result), mode=0o644)
    except OSError as error:
        raise StateFolderError(f"cannot write {folder}: {error.strerror}; free space.", path=folder) from error
    return folder


def data(result: Result) -> str:
    """Return what `result.json` holds: the result, and the timeline of each part."""
    return json.dumps({**result.as_json(), "parts": {part: timeline.as_json() for part, timeline in result.parts.items()}}, indent=1)


def page(result: Result) -> str:
    """Return the page."""
    own, finding = result.experiment, result.finding
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=html.escape(own.name),
        question=html.escape(own.question),
        prediction=_prose(own.prediction),
        verdict=result.verdict,
        kind=result.verdict.replace(" ", "-"),
        why=_prose(result.why),
        steps=_items(f"<b>{step.seconds:.1f} s</b> {_prose(step.what)}" for step in result.steps),
        checks="".join(_check(check) for check in finding.checks),
        numbers="".join(
            f"<tr><td>{html.escape(name)}</td><td>{'-' if number is None else f'{number:g}'}</td></tr>"
            for name, number in finding.numbers.items()
        ),
        timelines="".join(_timeline(number, part, timeline) for number, (part, timeline) in enumerate(result.parts.items())),
        mechanism=_prose(own.mechanism),
        settings="".join(
            f"<tr><td><code>{html.escape(setting.name)}</code></td><td>{_prose(setting.does)}</td></tr>" for setting in own.settings
        ),
        next=_items(_prose(text) for text in own.next),
        figures=drawing.packed(json.dumps([drawing.figure(timeline) for timeline in result.parts.values()], separators=(",", ":"))),
        plotly=drawing.plotly(),
    )


def _prose(text: str) -> str:
    """Return a sentence with its code as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _items(items: Iterable[str]) -> str:
    return "".join(f"<li>{item}</li>" for item in items)


def _check(check: Check) -> str:
    cells = f"<td>{_prose(check.claim)}</td><td>{html.escape(check.measured)}</td><td>{HOLDS[check.holds]}</td>"
    return f'<tr class="holds-{HOLDS[check.holds].replace(" ", "-")}">{cells}</tr>'


def _timeline(number: int, part: str, timeline: Timeline) -> str:
    legend = "".join(f'<li><i style="background:{colour}"></i>{html.escape(name)}</li>' for name, colour in drawing.legend(timeline))
    return f'<h3>{html.escape(part)}</h3><ul class="legend">{legend}</ul><div class="timeline" id="timeline-{number}"></div>'
