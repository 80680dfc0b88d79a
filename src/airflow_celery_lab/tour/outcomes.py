"""What came of each step, from what was seen. Data from data."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.timeline.spans import Span, Timeline
from airflow_celery_lab.tour.step import Outcome, Seen

#: A queue that no worker listens to.
UNHEARD = "tour_nobody"
#: Seconds of a wait for a slot that somebody sees in a timeline.
SEEN = 0.5
#: Of a step whose run cannot be found.
NO_RUN = Outcome("There is no run of it to look at.", None)


def processes(seen: Seen) -> Outcome:
    """Count workers and slots."""
    workers = seen.status.workers
    slots = sum(worker.concurrency for worker in workers)
    each = ", ".join(f"{worker.name} {worker.concurrency}" for worker in workers)
    return Outcome(f"The workers have {slots} slots in all ({each}).", str(slots) if slots else None)


def together(seen: Seen, *, total: float) -> Outcome:
    """See how many ran at one moment; `total` is the seconds that all of them take one after another."""
    if seen.run is None:
        return NO_RUN
    running = figures.spans(seen.run, "running")
    peak = figures.peak(seen.run, running)
    answer = {1: "1", 2: "2", 4: "4"}.get(peak)
    took = figures.told(figures.duration(seen.run, running))
    return Outcome(f"{peak} ran at one moment, and all took {took}. One after another they would take {total:g} s.", answer)


def routing(seen: Seen, *, heavy: Collection[str], light: Collection[str]) -> Outcome:
    """See who ran what; `heavy` and `light` are the workers on either queue."""
    if seen.run is None:
        return NO_RUN
    ran = {name: figures.workers(figures.spans(seen.run, "running", name)) for name in ("heavy", "light")}
    told = f"The tasks `heavy` ran on {_listed(ran['heavy'])}, the tasks `light` on {_listed(ran['light'])}."
    if not ran["heavy"]:
        return Outcome(told, None)
    answer = "heavy" if ran["heavy"] <= set(heavy) else "light" if ran["heavy"] <= set(light) else "free"
    return Outcome(told, answer)


def unheard(seen: Seen) -> Outcome:
    """See whether anything became of the tasks."""
    waiting = sum(queue.waiting for queue in seen.status.queues if queue.name == UNHEARD and not queue.listeners)
    if seen.run is not None and figures.spans(seen.run, "running"):
        return Outcome(f"{_listed(figures.workers(figures.spans(seen.run, 'running')))} ran them.", "ran")
    if waiting:
        return Outcome(
            f"{waiting} message{'s wait' if waiting > 1 else ' waits'} in the queue {UNHEARD}, and no worker listens there.", "waiting"
        )
    failed = seen.run is not None and seen.run.state == "failed"
    return Outcome(
        "They have failed." if failed else f"The queue {UNHEARD} is empty, and nobody has run them.", "failed" if failed else None
    )


def scaling(seen: Seen, *, new: str) -> Outcome:
    """See what the new worker ran."""
    if seen.run is None:
        return NO_RUN
    running = figures.spans(seen.run, "running")
    own, tasks = [span for span in running if span.worker == new], {span.name for span in running}
    moved = [span for span in own if span.try_number > 1]
    if moved:
        return Outcome(f"{new} ran tasks that another worker had begun.", "moved")
    if own:
        return Outcome(f"{new} ran {len(own)} of the {len(tasks)} tasks, and no task ran twice.", "waiting")
    # That says something only where any were left for it.
    added = figures.mark(seen.run, f"added {new}")
    left = added is not None and any(span.start > added.when for span in running)
    return Outcome(f"{new} ran none of the {len(tasks)} tasks.", "none" if left else None)


def loss(seen: Seen, *, victim: str) -> Outcome:
    """See what became of the tasks on the worker that was killed."""
    if seen.run is None:
        return NO_RUN
    killed = figures.mark(seen.run, f"kill {victim}")
    running = figures.spans(seen.run, "running")
    cut = {span.name for span in running if killed and span.worker == victim and _over(seen.run, span, killed.when)}
    if killed is None or not cut:
        return Outcome(f"{victim} ran no task of it when it was killed.", None)
    again = sorted((span for span in running if span.name in cut and span.try_number > 1), key=lambda span: span.start)
    if not again:
        return Outcome(f"{_tasks(cut)} of it did not run again, and the run is {seen.run.state}.", "failed")
    later = again[0].start - killed.when
    return Outcome(
        f"{_tasks(cut)} lost their worker. The first one ran again {later:.1f} s after the kill, on {again[0].worker}, and the run is {seen.run.state}."
        if len(cut) > 1
        else f"The task lost its worker. It ran again {later:.1f} s after the kill, on {again[0].worker}, and the run is {seen.run.state}.",
        "again",
    )


def deferred(seen: Seen, *, tasks: int, slots: int) -> Outcome:
    """Count who waited at one moment."""
    if seen.run is None:
        return NO_RUN
    peak = figures.peak(seen.run, figures.spans(seen.run, "deferred"))
    told = f"{'All' if peak == tasks else peak} of the {tasks} tasks waited at one moment, beside {slots} slot{'s' if slots > 1 else ''}."
    return Outcome(told, None if not peak else "more" if peak > slots else "one" if peak == 1 else "slots")


def timeline(seen: Seen) -> Outcome:
    """Count the tasks that waited for a slot."""
    if seen.run is None:
        return NO_RUN
    waits = [seen.run.until(span) - span.start for span in figures.spans(seen.run, "waiting")]
    long = [wait for wait in waits if wait > SEEN]
    told = f"{len(long)} of the {len({span.name for span in seen.run.spans})} tasks waited longer than {SEEN:g} s for a slot"
    return Outcome(f"{told}, the last one {max(long):.1f} s." if long else f"{told}.", "waits" if long else None)


def _over(run: Timeline, span: Span, when: float) -> bool:
    return span.start <= when <= run.until(span)


def _listed(workers: Iterable[str]) -> str:
    return ", ".join(sorted(workers)) or "no worker"


def _tasks(names: Collection[str]) -> str:
    return f"{len(names)} task{'s' if len(names) > 1 else ''}"
