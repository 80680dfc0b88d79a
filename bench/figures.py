"""What is measured of a contestant, step by step from an empty folder. Seconds are of the wall clock, unless they are said to be of CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from statistics import median, quantiles
from typing import NamedTuple

import psutil

from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.wait import wait_until
from bench.contestants import LIMIT, Contestant, Lab

#: Seconds that a contestant is left alone before, and for which it is watched at rest.
SETTLE, REST = 15.0, 30.0
#: Runs of one task, one after the other, on an idle cluster.
SINGLE = 10
#: Runs of 100 tasks that count, after the first one.
WARM = 2
#: Workers beside each other, and how often each slot of the first one sleeps and how long, in seconds.
FAN, SLEEPS, SLEEP = 4, 4, 30.0


class Figure(NamedTuple):
    """One row of the report."""

    name: str
    unit: str
    target: float | None  #: what the lab should reach, as a ratio to the Procfile by hand, or in the unit where that has no such figure
    more_is_better: bool = False
    absolute: bool = False  #: the target is in the unit


READY_EMPTY = Figure("ready, empty database", "s", 0.8)
READY_EMPTY_CPU = Figure("ready, empty database, CPU", "s", None)
READY_AGAIN = Figure("ready again", "s", 0.75)
READY_AGAIN_CPU = Figure("ready again, CPU", "s", None)
REST_MEMORY = Figure("memory at rest", "MB", 0.6)
REST_CPU = Figure("CPU at rest", "% of a core", 0.8)
FIRST = Figure("first run after a start, against later ones", "times", 1.3, absolute=True)
LATENCY = Figure("queued to running, median", "s", 1.0)
LATENCY_95 = Figure("queued to running, 95th percentile", "s", 1.0)
CHAIN = Figure("chain of 8 tasks", "s", 0.7)
COLD = Figure("100 tasks, cold", "tasks/s", None, more_is_better=True)
TASKS = Figure("100 tasks, warm", "tasks/s", 1.4, more_is_better=True)
MAPPED = Figure("one task mapped 100 times, warm", "tasks/s", 1.4, more_is_better=True)
TASK_CPU = Figure("CPU of a task", "s", 0.8)
WARM_MEMORY = Figure("memory, warm", "MB", 0.5)
STOP = Figure("Ctrl-C", "s", 3.0, absolute=True)
SCALE = Figure("one more worker, until it listens", "s", 5.0, absolute=True)
STATUS = Figure("status", "s", 0.5, absolute=True)
HELP = Figure("--help", "s", 0.15, absolute=True)
DOWN = Figure("down", "s", 4.0, absolute=True)
SPEED_UP = Figure("sleep-bound fan-out, 4 workers against 1, of the ideal", "", 0.9, more_is_better=True, absolute=True)

Value = tuple[Figure, float]


def ready_empty(own: Contestant) -> Iterator[Value]:
    """From an empty folder, the database's schema included, until a user can work."""
    seconds, cpu = _start(own)
    yield READY_EMPTY, seconds
    yield READY_EMPTY_CPU, cpu


def at_rest(own: Contestant) -> Iterator[Value]:
    """With nothing to do."""
    time.sleep(SETTLE)
    yield REST_MEMORY, memory(own.processes())
    yield REST_CPU, rest(own.processes, REST)


def single(own: Contestant) -> Iterator[Value]:
    """Run one task, again and again."""
    runs = [_run(own, "noop_one") for _ in range(SINGLE + 1)]
    first, *later = (run.seconds for run in runs)
    yield FIRST, first / median(later)
    waits = [wait for run in runs[1:] for wait in run.waits]
    yield LATENCY, median(waits)
    yield LATENCY_95, quantiles(waits, n=20)[-1]


def chain(own: Contestant) -> Iterator[Value]:
    """One task after the other."""
    yield CHAIN, median(_run(own, "noop_chain").seconds for _ in range(3))


def burst(own: Contestant) -> Iterator[Value]:
    """100 tasks at once."""
    yield COLD, 100 / _run(own, "noop_tasks").seconds
    before = cpu_seconds(own.processes())
    rates = [100 / _run(own, "noop_tasks").seconds for _ in range(WARM)]
    yield TASK_CPU, (cpu_seconds(own.processes()) - before) / (100 * WARM)
    yield TASKS, median(rates)
    yield MAPPED, median(100 / _run(own, "noop_mapped").seconds for _ in range(WARM))
    yield WARM_MEMORY, memory(own.processes())


def commands(own: Contestant) -> Iterator[Value]:
    """Type the lab's own commands."""
    if isinstance(own, Lab):
        yield STATUS, median(_seconds(lambda: own.lab.command("status")) for _ in range(5))
        yield HELP, median(_seconds(lambda: own.lab.command("--help")) for _ in range(5))


def stop(own: Contestant) -> Iterator[Value]:
    """Press Ctrl-C, with nothing running."""
    yield STOP, _seconds(own.stop)


def ready_again(own: Contestant) -> Iterator[Value]:
    """Start once more with what is there."""
    seconds, cpu = _start(own)
    yield READY_AGAIN, seconds
    yield READY_AGAIN_CPU, cpu
    own.stop()


def background(own: Contestant) -> Iterator[Value]:
    """Run the lab in the background: one more worker, and the end."""
    if isinstance(own, Lab):
        _in_background(own)

        def absent() -> str | None:
            return None if "worker-default-2" in [worker.name for worker in own.cluster.broker.workers(3)] else "absent"

        def scale() -> None:
            own.lab.command("scale", "worker-default=2")
            wait_until(absent, LIMIT, "the worker", interval=0.05)

        yield SCALE, _seconds(scale)
        time.sleep(SETTLE)
        yield DOWN, _seconds(lambda: own.lab.command("down"))


def fan_out(own: Contestant) -> Iterator[Value]:
    """Run tasks that sleep on one worker of the default queue, and on four."""
    if isinstance(own, Lab):
        _in_background(own)
        slots = own.cluster.slots()["worker-default"]
        conf = {"tasks": SLEEPS * slots, "seconds": SLEEP}
        alone = _run(own, "fan_out", conf).seconds
        own.lab.command("scale", f"worker-default={FAN}", timeout=LIMIT)
        yield SPEED_UP, alone / _run(own, "fan_out", conf).seconds / FAN
        own.lab.command("down")


#: In this order, each builds on the one before.
STEPS: tuple[Callable[[Contestant], Iterator[Value]], ...] = (
    ready_empty,
    at_rest,
    single,
    chain,
    burst,
    commands,
    stop,
    ready_again,
    background,
    fan_out,
)


def memory(processes: Iterable[psutil.Process]) -> float:
    """Return megabytes, each shared page divided among its users."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU seconds of all processes that live, and of those that they have waited for."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def rest(processes: Callable[[], Iterable[psutil.Process]], seconds: float) -> float:
    """Watch processes for so long, and return what they take meanwhile, in percent of a core."""
    before = cpu_seconds(processes())
    time.sleep(seconds)
    return 100 * (cpu_seconds(processes()) - before) / seconds


class _Run(NamedTuple):
    seconds: float  #: from the request until the run's end, as Airflow has it
    waits: list[float]  #: of its tasks, from queued to running


def _run(own: Contestant, dag_id: str, conf: Mapping[str, object] | None = None) -> _Run:
    answer = own.api.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf or {}})
    answer.raise_for_status()
    path = f"/api/v2/dags/{dag_id}/dagRuns/{answer.json()['dag_run_id']}"
    asked = moment(answer.json()["queued_at"]) or 0.0
    run: dict[str, str] = {}

    def unfinished() -> str | None:
        run.update(own.api.get(path).json())
        return None if run["state"] in ("success", "failed") else run["state"]

    wait_until(unfinished, LIMIT, dag_id, interval=0.25)
    if run["state"] != "success":
        raise RuntimeError(f"{own.name}: {dag_id} failed")
    tasks = own.api.get(f"{path}/taskInstances", params={"limit": 100}).json()["task_instances"]
    waits = [(moment(task["start_date"]) or 0.0) - (moment(task["queued_when"]) or 0.0) for task in tasks]
    return _Run((moment(run["end_date"]) or 0.0) - asked, waits)


def _in_background(own: Lab) -> None:
    if own.roots():  # Where this step was asked for alone.
        own.stop()
    own.lab.command("up", "-d", timeout=LIMIT)
    own.lab.look()


def _start(own: Contestant) -> tuple[float, float]:
    """Start a contestant; return the seconds until it was ready, and those of CPU that it took."""
    before, began = cpu_seconds(own.processes()), time.monotonic()
    own.start()
    wait_until(own.unready, LIMIT, own.name, interval=0.2)
    return time.monotonic() - began, cpu_seconds(own.processes()) - before


def _seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began
