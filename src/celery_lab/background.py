"""`lab up -d` and what can be done to a lab that runs in the background, in words for people."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from celery_lab import faults, preflight, status, supervisor
from celery_lab.cluster import Cluster
from celery_lab.errors import LabError, NotReadyError, NotRunningError
from celery_lab.services import Service
from celery_lab.wait import wait_until

#: Seconds of silence after which the user is told what is being waited for.
PATIENCE = 10


def up(cluster: Cluster, programs: supervisor.Programs, expected: Mapping[str, Service]) -> None:
    """Start `programs`, or what of the running lab does not run, and wait until all is ready.

    Raises:
        LabError: something is in the way, or did not become ready.

    """
    states = cluster.supervisor.states()
    if states:
        if supervisor.plan(cluster.supervisor.programs, programs):
            say("lab: runs already, with other processes than the Procfile names: `./lab apply` brings it about")
        cluster.supervisor.launch(name for name, state in states.items() if state in {"STOPPED", "EXITED", "FATAL"})
        expected = supervisor.services(cluster.supervisor.programs)
    else:
        preflight.check(cluster.settings, expected)
        cluster.supervisor.start(programs, os.environ)
    wait_for(cluster, list(expected))


def down(cluster: Cluster, timeout: float | None) -> None:
    """End the lab: Postgres and Redis last, what takes longer than `timeout` seconds by force.

    Raises:
        LabError: it runs in the foreground.

    """
    if not cluster.supervisor.running:
        if cluster.records:
            raise LabError(f"the lab in {cluster.settings.home} runs in the foreground; press Ctrl-C there.")
        say(f"lab: the lab in {cluster.settings.home} is not running")
        return
    services = supervisor.services(cluster.supervisor.programs)
    servers = [name for name, service in services.items() if service.stops_last]
    for names in ([name for name in services if name not in servers], servers):
        for late in cluster.supervisor.stop(names, progress("stopping"), timeout):
            faults.kill(cluster, late)
            say(f"lab: {late} had to be killed")
    cluster.supervisor.shut_down()
    say(f"lab: stopped; its state is kept in {cluster.settings.home}")


def wait_for(cluster: Cluster, names: list[str]) -> None:
    """Wait until `names` are ready; show the end of the log of what is not.

    Raises:
        NotReadyError: one of them failed, or it took longer than LAB_START_TIMEOUT.

    """
    show = progress("waiting")

    def probe() -> str | None:
        late = [process for process in cluster.status(details=False).processes if process.name in names and not process.ready]
        failed = [process.name for process in late if cluster.supervisor.states().get(process.name) == "FATAL"]
        if failed:
            raise NotReadyError(
                f"{failed[0]} cannot start; the end of its log stands above, all of it in {cluster.supervisor.log(failed[0])}."
            )
        return status.lacking(late) or None

    try:
        wait_until(probe, cluster.settings.start_timeout, "the cluster", interval=0.5, on_wait=show)
    except NotReadyError:
        for process in cluster.status(details=False).not_ready:
            if process.name in names:
                say("\n".join(f"{process.name} | {line}" for line in cluster.supervisor.tail(process.name, 10)))
        raise


def apply(cluster: Cluster, target: supervisor.Programs) -> None:
    """Show what differs between `target` and what runs, bring it about, and wait until it is ready.

    Raises:
        LabError: the lab does not run in the background, or what is new did not become ready.

    """
    require(cluster)
    plan = supervisor.plan(cluster.supervisor.programs, target)
    for sign, names in (("+", plan.added), ("~", plan.changed), ("-", plan.removed)):
        for name in names:
            say(f"{sign} {name}" + (f"  {target[name]}" if name in target else ""))
    if not plan:
        say("lab: nothing to do: what runs is what is wanted")
        return
    cluster.supervisor.apply(target, progress("stopping"))
    wait_for(cluster, [*plan.added, *plan.changed])
    say(f"lab: added {len(plan.added)}, changed {len(plan.changed)}, removed {len(plan.removed)}; all others were left alone")


def require(cluster: Cluster) -> None:
    """Do nothing when the lab runs in the background.

    Raises:
        NotRunningError: it does not.

    """
    if not cluster.supervisor.running:
        raise NotRunningError(f"the lab in {cluster.settings.home} does not run in the background; start it with `./lab up -d`.")


def require_known(cluster: Cluster, names: list[str]) -> None:
    """Do nothing when the lab in the background has processes of these names.

    Raises:
        NotRunningError: it has not.

    """
    require(cluster)
    programs = cluster.supervisor.programs
    if unknown := [name for name in names if name not in programs]:
        raise NotRunningError(f"there is no process {unknown[0]!r} in the lab in {cluster.settings.home}; there is: {', '.join(programs)}.")


def progress(doing: str) -> Callable[[str], None]:
    """Return a function that shows what is being waited for, every PATIENCE seconds at most."""
    start = shown = time.monotonic()

    def show(reason: str) -> None:
        nonlocal shown
        if time.monotonic() - shown > PATIENCE:
            shown = time.monotonic()
            say(f"lab: still {doing} after {shown - start:.0f} s: {reason}")

    return show


def show_logs(cluster: Cluster, names: list[str], tail: int, *, follow: bool) -> None:
    """Print the last `tail` lines of each process's log, and what comes, until Ctrl-C, if `follow`."""
    width = max(map(len, names), default=0)

    def show(name: str, lines: Iterable[str]) -> None:
        for line in lines:
            print(f"{name:{width}} | {line}" if len(names) > 1 else line, flush=True)

    for name in names:
        show(name, cluster.supervisor.tail(name, tail))
    if not follow:
        return
    files = {name: cluster.supervisor.log(name).open(errors="replace") for name in names}
    for file in files.values():
        file.seek(0, os.SEEK_END)
    with suppress(KeyboardInterrupt):
        while True:
            for name, file in files.items():
                show(name, (line.rstrip("\n") for line in file.readlines()))
                if os.fstat(file.fileno()).st_ino != cluster.supervisor.log(name).stat().st_ino:  # It was rotated.
                    files[name] = cluster.supervisor.log(name).open(errors="replace")
            time.sleep(0.2)


def say(text: str) -> None:
    """Print a line at once, and in one piece."""
    print(text, flush=True)
