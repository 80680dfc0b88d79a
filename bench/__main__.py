"""`bench/run`: measures the contestants in turn, round by round, and prints a table."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from airflow_celery_lab.testing.pictures import draw
from bench import figures, report
from bench.contestants import CONTESTANTS, find
from bench.report import Round

#: Columns of the picture.
WIDTH = 100
STEPS = {step.__name__.replace("_", "-"): step for step in figures.STEPS}


def main(
    contestants: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(CONTESTANTS)} (default: the first two), and lab+NAME=VALUE.")
    ] = None,
    rounds: Annotated[int, typer.Option("-n", "--rounds", min=1, help="How often each.")] = 5,
    steps: Annotated[str, typer.Option(help=f"With commas between them, of {', '.join(STEPS)}; a start always is.")] = ",".join(STEPS),
    file: Annotated[Path | None, typer.Option("--json", help="Where to write all figures.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Where to draw the ratios, as SVG.")] = None,
    markdown: Annotated[bool, typer.Option(help="Print the table for a page.")] = False,
) -> None:
    """Measure contestants in turn, each on a fresh folder in each round."""
    chosen = contestants or list(CONTESTANTS)[:2]
    wanted = steps.split(",")
    for word, known in [
        *((name, CONTESTANTS) for name in chosen if not find(name)),
        *((step, STEPS) for step in wanted if step not in STEPS),
    ]:
        raise typer.BadParameter(f"there is no {word!r}; there is: {', '.join(known)}.")
    # However it is ended, it leaves no cluster behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    done: list[Round] = []
    for number in range(1, rounds + 1):
        for name in chosen:
            done.append(Round(name, number))
            measure(done[-1], wanted)
            if file:
                file.write_text(json.dumps(report.as_json(done), indent=2))
    for line in report.failures(done):
        print(f"no figure: {line}")
    if picture:
        draw(picture, [report.picture(done)], "bench/run", WIDTH)
    if markdown:
        print(report.markdown(done))
    else:
        Console().print(report.table(done))


def measure(one: Round, wanted: list[str]) -> None:
    """Take the figures of one contestant, once; a step that fails or hangs is noted, and ends the round."""
    make = find(one.contestant)
    assert make is not None
    own = make()
    try:
        for name, step in STEPS.items():
            if name in wanted or step is figures.ready_empty:
                try:
                    for figure, value in step(own):
                        one.values[figure.name] = value
                        print(f"{one.contestant}, round {one.number}: {figure.name}: {value:.2f} {figure.unit}", flush=True)
                except Exception as error:  # noqa: BLE001  # Whatever it is, it is this contestant's result.
                    one.failures[name] = f"{type(error).__name__}: {error}"
                    print(f"{one.contestant}, round {one.number}: {name} failed: {error}", flush=True)
                    return
    finally:
        own.remove()


if __name__ == "__main__":
    typer.run(main)
