"""A timeline as one HTML page, which Plotly draws in the browser; the page holds all it needs."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from airflow_celery_lab.configuration import names
from airflow_celery_lab.timeline import layout as layouts
from airflow_celery_lab.timeline.spans import EVERY, Mark, Span, Timeline

#: Colours that the colour-blind can tell apart (Okabe and Ito), on a light ground and on a dark one. The last one of them,
#: vermilion, is kept for what failed or was lost.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#F0E442")
OTHERS, BAD, QUIET = "#999999", "#D55E00", "rgba(128,128,128,0.5)"
#: Of the lines behind everything, and of those of changes that are no faults.
GRID, CHANGE = "rgba(128,128,128,0.25)", "#888888"
#: Pixels of a lane, and what the axis below takes.
LANE, AXIS = 26, 44
UNITS = ((7200.0, "hours", 3600.0), (600.0, "minutes", 60.0), (0.0, "seconds", 1.0))
#: What becomes of a task's try, for which its bar is crossed.
BROKEN = ("failed", "lost", "up_for_retry")
TEMPLATE = Path(__file__).with_name("page.html")


def page(timeline: Timeline) -> str:
    """Return the page."""
    tries = {(span.name, span.try_number) for span in timeline.spans}
    what = f"{timeline.state} · {_count(len({name for name, _ in tries}), 'task')}, {_count(len(tries), 'try', 'tries')} · {_seconds(timeline.end - timeline.start)}"
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        dag=html.escape(timeline.dag_id),
        run=html.escape(timeline.run_id),
        what=html.escape(what),
        legend="".join(f'<li><i style="background:{colour}"></i>{html.escape(name)}</li>' for name, colour in legend(timeline)),
        figure=packed(json.dumps(figure(timeline), separators=(",", ":"))),
        plotly=plotly(),
    )


def figure(timeline: Timeline) -> dict[str, Any]:
    """Return what Plotly draws: traces and a layout, as plain data."""
    drawing = _Drawing(timeline)
    return {"data": drawing.traces(), "layout": drawing.layout()}


def colours(timeline: Timeline) -> dict[str, str]:
    """Return a colour for each task id: the tasks that ran longest get their own, all others share one."""
    seconds: dict[str, float] = defaultdict(float)
    for span in timeline.spans:
        seconds[span.task_id] += timeline.until(span) - span.start if span.kind != "waiting" else 0.0
    longest = sorted(sorted(seconds, key=lambda task: -seconds[task])[: len(COLOURS)], key=names.in_order)
    return {**dict(zip(longest, COLOURS, strict=False)), **{task: OTHERS for task in seconds if task not in longest}}


class _Drawing:
    """One timeline on its way to Plotly: where everything goes. x is time since the start, y lanes from the top."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        length = timeline.end - timeline.start
        unit, self._scale = next((unit, scale) for least, unit, scale in UNITS if length >= least)
        # A run is read from its start, what goes on for all runs back from now.
        self._live = timeline.run_id == EVERY
        self._zero = timeline.end if self._live else timeline.start
        self._axis = f"{unit} {'before now' if self._live else 'since the start'}"
        self._colours = colours(timeline)
        self._layout = layouts.layout(timeline)

    def traces(self) -> list[dict[str, Any]]:
        """Return bars, lines and marks."""
        timeline = self._timeline
        running, waiting, deferred = (timeline.of_kind(kind) for kind in ("running", "waiting", "deferred"))
        return [
            self._bars("waiting", waiting),
            self._bars("deferred", deferred),
            self._bars("running", running),
            self._ties(),
            self._crosses(running),
            self._marks(),
        ]

    def layout(self) -> dict[str, Any]:
        """Return axes, headings and the lines of the marks."""
        start, end = self._x(self._timeline.start), self._x(self._timeline.end)
        edge = 0.01 * (end - start)
        bottom = self._layout.bottom
        headings = [
            {
                "x": 0,
                "xref": "paper",
                "y": group.top + 0.55 * layouts.HEADING,
                "text": f"<b>{html.escape(group.heading)}</b>",
                "showarrow": False,
                "xanchor": "left",
            }
            for group in self._layout.groups
        ]
        slots = [(group.middle(slot), str(slot)) for group in self._layout.groups for slot in range(1, group.slots + 1)]
        return {
            "height": round(bottom * LANE) + AXIS,
            "margin": {"l": 24, "r": 12, "t": 0, "b": AXIS},
            "xaxis": {
                "range": [start - edge, end + edge or 1],
                "title": {"text": self._axis},
                "zeroline": False,
                "gridcolor": GRID,
            },
            "yaxis": {
                "range": [bottom, 0],
                "fixedrange": True,
                "gridcolor": GRID,
                "zeroline": False,
                "tickvals": [y for y, _ in slots],
                "ticktext": [slot for _, slot in slots],
            },
            "annotations": headings,
            "shapes": [self._line(mark) for mark in self._timeline.marks],
            "barmode": "overlay",
            "bargap": 0,
            "showlegend": False,
            "hovermode": "closest",
            "hoverlabel": {"align": "left"},
            "dragmode": "zoom",
            "uniformtext": {"mode": "hide", "minsize": 10},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
        }

    def _x(self, when: float) -> float:
        return round((when - self._zero) / self._scale, 4)

    def _bars(self, kind: str, spans: Sequence[Span]) -> dict[str, Any]:
        colour = [QUIET if kind == "waiting" else self._colours[span.task_id] for span in spans]
        bars: dict[str, Any] = {
            "type": "bar",
            "name": kind,
            "orientation": "h",
            "base": [self._x(span.start) for span in spans],
            "x": [round((self._timeline.until(span) - span.start) / self._scale, 4) for span in spans],
            "y": [round(self._layout.places[span].middle, 4) for span in spans],
            "width": [round(self._layout.places[span].height, 4) for span in spans],
            # A line keeps visible what ran for less than a pixel; those of a thousand waits would lie over each other.
            "marker": {
                "color": colour,
                "line": {"width": 0.0 if kind == "waiting" else 0.5, "color": colour},
                "opacity": 1.0 if kind == "running" else 0.5,
            },
            "hovertext": [self._told(span) for span in spans],
            "hoverinfo": "text",
            "textposition": "none",
        }
        if kind == "running":
            crossed = ["x" if span.state in BROKEN else "" for span in spans]
            bars["marker"]["pattern"] = {"shape": crossed, "fgcolor": BAD, "fillmode": "overlay", "size": 7, "solidity": 0.25}
            bars.update(
                text=[html.escape(span.name) for span in spans],
                textposition="inside",
                insidetextanchor="start",
                textangle=0,
                insidetextfont={"size": 11},
            )
        return bars

    def _ties(self) -> dict[str, Any]:
        x: list[float | None] = []
        y: list[float | None] = []
        for before, after in self._timeline.retries():
            x += [self._x(self._timeline.until(before)), self._x(after.start), None]
            y += [self._layout.places[before].middle, self._layout.places[after].middle, None]
        return {
            "type": "scatter",
            "name": "retries",
            "mode": "lines",
            "x": x,
            "y": y,
            "line": {"color": BAD, "width": 1.5, "dash": "dot"},
            "hoverinfo": "skip",
        }

    def _crosses(self, running: Sequence[Span]) -> dict[str, Any]:
        broken = [span for span in running if span.state in BROKEN]
        return {
            "type": "scatter",
            "name": "lost or failed",
            "mode": "markers",
            "x": [self._x(self._timeline.until(span)) for span in broken],
            "y": [self._layout.places[span].middle for span in broken],
            "marker": {"symbol": "x", "size": 9, "color": BAD},
            "hovertext": [self._told(span) for span in broken],
            "hoverinfo": "text",
        }

    def _marks(self) -> dict[str, Any]:
        marks = self._timeline.marks
        return {
            "type": "scatter",
            "name": "marks",
            "mode": "markers+text",
            "x": [self._x(mark.when) for mark in marks],
            "y": [round(layouts.LABEL * ((row or 0) + 0.5), 3) for row in self._layout.labels],
            "text": ["" if row is None else html.escape(mark.what) for mark, row in zip(marks, self._layout.labels, strict=True)],
            "textposition": ["middle left" if layouts.is_late(self._timeline, mark) else "middle right" for mark in marks],
            "cliponaxis": False,
            "marker": {"symbol": "triangle-down", "size": 9, "color": [BAD if mark.fault else CHANGE for mark in marks]},
            "hovertext": [_lines(f"<b>{html.escape(mark.what)}</b>", html.escape(mark.detail), self._clock(mark.when)) for mark in marks],
            "hoverinfo": "text",
        }

    def _line(self, mark: Mark) -> dict[str, Any]:
        x = self._x(mark.when)
        return {
            "type": "line",
            "x0": x,
            "x1": x,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": BAD if mark.fault else CHANGE, "width": 1, "dash": "dash"},
            "opacity": 0.6,
        }

    def _told(self, span: Span) -> str:
        end = "" if span.end is None else f" to {self._clock(span.end)}"
        took = _seconds(self._timeline.until(span) - span.start)
        verb = {"waiting": "waited", "running": "ran", "deferred": "gave its slot back for"}[span.kind]
        return _lines(
            f"<b>{html.escape(span.name)}</b>",
            f"try {span.try_number} · {verb} {took}" + (" so far" if span.end is None else ""),
            f"{html.escape(span.state)}" if span.kind != "waiting" else "",
            f"queue {html.escape(span.queue or '-')} · worker {html.escape(span.worker or '-')}",
            f"{self._clock(span.start)}{end}",
            f"run {html.escape(span.run_id)}" if span.run_id else "",
        )

    def _clock(self, when: float) -> str:
        time = f"{datetime.fromtimestamp(when, timezone.utc):%H:%M:%S} UTC"
        return time if self._live else f"{time} (+{when - self._timeline.start:.1f} s)"


def legend(timeline: Timeline) -> Iterable[tuple[str, str]]:
    """Yield what each colour stands for, and the colour."""
    found = colours(timeline)
    yield from ((task, colour) for task, colour in found.items() if colour != OTHERS)
    if OTHERS in found.values():
        yield "other tasks", OTHERS
    if timeline.of_kind("waiting"):
        yield "waiting for a worker", QUIET
    if any(span.state in BROKEN for span in timeline.of_kind("running")):
        yield "lost or failed", BAD


@cache
def plotly() -> str:
    """Return Plotly's JavaScript, packed; once for all pages that the api-server shows."""
    from plotly.offline import get_plotlyjs  # 0.3 s, which only the command that draws spends.

    return packed(get_plotlyjs())


def packed(text: str) -> str:
    """Return what the page unpacks."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _lines(*lines: str) -> str:
    return "<br>".join(line for line in lines if line)


def _count(number: int, one: str, more: str | None = None) -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{seconds:.1f} s" if minutes < 1 else f"{minutes:.0f} min {rest:.0f} s"
