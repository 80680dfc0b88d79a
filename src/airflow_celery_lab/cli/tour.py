"""The command that leads a newcomer through the lab."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_celery_lab.cli.app import app, ended_by_signals, progress
from airflow_celery_lab.cluster import evidence, judgement
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.lifecycle import ENDED
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import environment, files, roots, settings
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import INTERRUPTED, USAGE, NotReadyError
from airflow_celery_lab.tour import replies

if TYPE_CHECKING:
    from airflow_celery_lab.cli.talk import Talk
    from airflow_celery_lab.tour.place import Addresses, Place
    from airflow_celery_lab.tour.progress import Progress

#: How many steps there are.
STEPS = 8
#: Seconds in which a lab that runs is ready.
READY = 60.0


@app.command()
def tour(
    begin: Annotated[int | None, typer.Option("--from", metavar="STEP", min=1, max=STEPS, help="Begin with this step, 1 to 8.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin with the first step, and forget the predictions.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go through it without asking anything.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the steps, and how far you are.")] = False,
) -> None:
    """Show Celery in eight steps, each with a prediction and a command that runs for real; goes on where it was left.

    Needs the lab in the background, and starts it if you want. Leave it at any moment with q, Ctrl-D or Ctrl-C: what a step has
    changed is put back.
    """
    # What draws and what knows the steps: `--help` need not wait for it.
    from airflow_celery_lab.cli.talk import Talk
    from airflow_celery_lab.tour.progress import Progress

    state = settings.load(os.environ).state
    if begin is not None and restart:
        raise typer.BadParameter("--restart begins with step 1; leave one of the two out", param_hint="--from")
    before, talk = _read(state), Talk(asks=not yes)
    if listing:
        _list(talk, before)
        return
    if not yes and not sys.stdin.isatty():
        print(f"lab: the tour asks, and nobody can answer here; `{typed()} tour --yes` goes through it without asking.", file=sys.stderr)
        raise typer.Exit(USAGE)
    now = Progress() if restart else Progress(begin, before.predictions) if begin else before
    if now.step > STEPS:
        talk.paragraph(
            f"You have made all {STEPS} steps. `{typed()} tour --restart` begins again, `{typed()} tour --from 3` with one of them."
        )
        return
    with Cluster.open() as cluster, ended_by_signals():
        cluster.require_main()
        _require_lab(cluster, talk)
        _go(cluster, talk, now, bold=not yes)


def _go(cluster: Cluster, talk: Talk, now: Progress, *, bold: bool) -> None:
    """Make the steps from `now` on."""
    from airflow_celery_lab.cli.guide import Guide
    from airflow_celery_lab.experiments.published import Published, alone
    from airflow_celery_lab.tour import steps

    state = cluster.lab.state

    def keep() -> None:
        with suppress(OSError):  # The disk may be full; then the next tour begins earlier.
            files.write(state.tour, now.as_text())

    def made(right: bool | None) -> None:  # noqa: FBT001  # a fact, not a switch
        nonlocal now
        now = now.after(now.step, right)
        keep()

    try:
        with alone(state), Published(cluster) as dags:
            at, place = _addresses(cluster), _place(cluster)
            guide = Guide(cluster, dags, talk, steps.steps(place), bold=bold)
            keep()  # Where it goes on, if it is left in this step that was asked for.
            _greet(talk, now)
            guide.bring_dags(now.step)
            while (number := now.step) <= STEPS:
                guide.make(number, made)
        _bid_farewell(talk, steps.farewell(at), now)
    except (typer.Exit, KeyboardInterrupt) as left:
        with suppress(OSError):
            _say_where_it_goes_on(talk, now)
        raise typer.Exit(INTERRUPTED if isinstance(left, KeyboardInterrupt) else 0) from None


def _require_lab(cluster: Cluster, talk: Talk) -> None:
    """Return when the lab in the background is ready; offer to start it where none runs.

    Raises:
        ModeError: it runs in the foreground.
        NotReadyError: it is not ready, and does not become so.

    """
    from airflow_celery_lab.cli.guide import run_command

    if not cluster.records and not cluster.supervisor.running:
        talk.paragraph(
            f"The tour needs a lab in the background, and none runs here. It takes about half a minute to start, and runs until `{typed()} down`."
        )
        talk.ask(f"Enter runs `{typed()} up -d` (q leaves):", replies.onward)
        if status := run_command(["up", "-d"]):
            raise typer.Exit(status)
        return
    cluster.require_background()
    now, states = cluster.status(details=False), cluster.supervisor.states()
    idle = [process for process in now.not_ready if process.state == "paused" or states.get(process.name) in ENDED]
    if idle:
        raise NotReadyError(
            f"the tour needs a lab in which all is ready: {judgement.lacking(idle)}; `{typed()} up -d` starts what does not run.",
            process=idle[0].name,
        )
    cluster.wait_until_ready(READY, on_wait=progress("waiting"))


def _place(cluster: Cluster) -> Place:
    """Return what the steps are made for.

    Raises:
        NotReadyError: no worker of the lab answers.

    """
    from airflow_celery_lab.tour import place

    running = list(cluster.supervisor.processes)
    found = place.find(
        _addresses(cluster),
        cluster.broker.workers(len(cluster.slots())),
        environment.default_queue(cluster.lab, os.environ),
        [line.name for line in cluster.lines() if line.name not in cluster.kept()],  # Of others `scale` is refused.
        running,
        triggerer=evidence.runs("triggerer", cluster.records),
        patience=cluster.settings.listener_timeout,
    )
    if found is None:
        raise NotReadyError(f"the tour needs a worker, and none of this lab answers; see `{typed()} status`.")
    return found


def _addresses(cluster: Cluster) -> Addresses:
    from airflow_celery_lab.tour.place import Addresses

    checkout = roots.checkout()
    return Addresses(
        me=typed(),
        airflow=environment.web_url(cluster.lab),
        flower=cluster.settings.url("flower") if evidence.runs("flower", cluster.records) else "",
        docs=os.path.relpath(checkout / "docs") if checkout else "docs",
    )


def _read(state: State) -> Progress:
    from airflow_celery_lab.tour import progress as progresses

    try:
        return progresses.parse(state.tour.read_text(encoding="utf-8", errors="replace"), STEPS)
    except OSError:
        return progresses.Progress()


def _list(talk: Talk, now: Progress) -> None:
    from airflow_celery_lab.tour.steps import TITLES

    for number, title in enumerate(TITLES, start=1):
        mark = "done" if number < now.step else "next" if number == now.step else ""
        talk.line(f"{number}  {mark:4}  {title}")
    if told := now.told():
        talk.paragraph(told)


def _greet(talk: Talk, now: Progress) -> None:
    if now.step == 1:
        talk.paragraph(
            f"The tour shows Celery in {STEPS} steps of a minute or two. Each one asks what you expect, runs a command, and compares. "
            f"You can leave at any moment with q, Ctrl-D or Ctrl-C: the lab is put back, and `{typed()} tour` goes on from there."
        )
    else:
        talk.paragraph(
            f"The tour goes on with step {now.step} of {STEPS}. q, Ctrl-D or Ctrl-C leaves it; `{typed()} tour --list` has all steps."
        )


def _bid_farewell(talk: Talk, lines: Sequence[tuple[str, str]], now: Progress) -> None:
    talk.heading("The end of the tour")
    talk.line("")
    talk.paragraph(" ".join(filter(None, (now.told(), "From here:"))))
    for what, why in lines:
        talk.line(f"  {what}")
        talk.paragraph(why, indent="    ")
    talk.line("")
    talk.paragraph(f"The lab goes on; `{typed()} down` stops it.")


def _say_where_it_goes_on(talk: Talk, now: Progress) -> None:
    talk.line("")
    if now.step <= STEPS:
        talk.paragraph(f"You have left the tour; `{typed()} tour` goes on with step {now.step} of {STEPS}.")
    else:
        talk.paragraph("You have left the tour after its last step.")
