"""A DAG run, as tests ask about it: who ran what, what ran at once, and what it is doing now."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import pytest

from airflow_celery_lab.cluster import runs
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.cluster.runs import ENDED, FINAL, MOST, Run, Task
from airflow_celery_lab.configuration.suggestion import suggest, there_is
from airflow_celery_lab.errors import LabError, NotReadyError, UnknownTaskError
from airflow_celery_lab.wait import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow_celery_lab.timeline.spans import Span, Timeline

#: All states of a task (`airflow.utils.state`).
STATES = (
    *ENDED,
    "scheduled",
    "queued",
    "running",
    "restarting",
    "up_for_retry",
    "up_for_reschedule",
    "deferred",
    "awaiting_input",
)
#: Seconds between two looks at a task that is waited for, and for which a test waits at most by itself.
INTERVAL, PATIENCE = 0.2, 60.0

#: What Airflow's page makes of a log: groups of lines; and where the frames of Airflow itself are.
FOLDS, LIBRARIES = ("::group::", "::endgroup::"), "/site-packages/"

P = ParamSpec("P")
T = TypeVar("T")


def told(function: Callable[P, T]) -> Callable[P, T]:
    """Let an error be seen where the test has called, and not deep in the lab: its sentence says all."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except (LabError, pytest.fail.Exception) as error:
            raise error.with_traceback(None) from None

    return call


class LabTask:
    """One task instance in its newest try, or in one of its earlier ones, as it was when it was asked for."""

    def __init__(self, task: Task, run: LabRun) -> None:
        self._task = task
        self._run = run

    def __repr__(self) -> str:
        return f"<{describe(self._task)}>"

    @property
    def name(self) -> str:
        """The task's id, with its index where it is mapped."""
        return self._task.name

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self._task.task_id

    @property
    def map_index(self) -> int:
        """Its index, -1 where it is not mapped."""
        return self._task.map_index

    @property
    def state(self) -> str | None:
        """Airflow's state, such as success; None for a task that the scheduler has not looked at."""
        return self._task.state

    @property
    def tries(self) -> int:
        """How many times it was tried, this try included."""
        return self._task.try_number

    @property
    def worker(self) -> str | None:
        """The name of the worker that ran it, as its line in the Procfile has it; None while none has had it."""
        return self._task.worker

    @property
    def queue(self) -> str | None:
        """The queue that it was sent to."""
        return self._task.queue

    @property
    def waited(self) -> float | None:
        """Seconds in which it could have run, and no worker had taken it."""
        return self._task.waited

    @property
    def seconds(self) -> float | None:
        """Seconds from its start to its end; None while it has not ended."""
        start, end = moment(self._task.start), moment(self._task.end)
        return None if start is None or end is None else end - start

    @told
    def log(self) -> str:
        """Return the log of this try, a line an event.

        Raises:
            AirflowError: Airflow refused the request.

        """
        return "\n".join(log_of(self._run.api, self._run, self._task))


class Overlap(NamedTuple):
    """Whether two tasks ran at the same time; falsy when they did not."""

    seconds: float
    stretches: Sequence[str]  #: of each task: when it ran, and where

    def __bool__(self) -> bool:
        return self.seconds > 0

    def __repr__(self) -> str:
        return f"<{f'{self.seconds:.1f} s of overlap' if self else 'no overlap'}: {', '.join(self.stretches) or 'neither ran'}>"


class LabRun:
    """A DAG run. Each answer is a new look, until the run has ended.

    In a `with` block it goes on beside the test, whose block ends when the run has.
    """

    def __init__(self, cluster: Cluster, dag_id: str, run_id: str, timeout: float) -> None:
        """Take the run that was started; `timeout` is in seconds, for its end."""
        self._cluster = cluster
        self.dag_id = dag_id
        self.run_id = run_id
        self._timeout = timeout
        self._seen: Run | None = None

    def __repr__(self) -> str:
        if self._seen is None:
            return f"<run of {self.dag_id}: {self.run_id}>"
        # What went wrong stands first: pytest leaves out the middle of what is long.
        tasks = sorted(self._seen.tasks, key=lambda task: task.state == "success")
        return f"<{self.dag_id} {self._seen.state}: {'; '.join(map(describe, tasks)) or 'no tasks'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        __tracebackhide__ = True
        if kind is None:
            self.wait()

    @property
    def api(self) -> AirflowApi:
        """Airflow's REST API."""
        return self._cluster.api

    @property
    @told
    def now(self) -> Run:
        """The run and its tasks as they are now."""
        if self._seen is None or self._seen.state not in FINAL:
            self._seen = self._cluster.look(self.dag_id, self.run_id)
        return self._seen

    @property
    def state(self) -> str:
        """The run's state: queued, running, success or failed."""
        return self.now.state

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL

    @property
    def succeeded(self) -> bool:
        """Whether it has ended as it should."""
        return self.now.succeeded

    @property
    def reasons(self) -> dict[str, str]:
        """Why tasks failed, or cannot start, by their names."""
        return dict(self.now.reasons)

    @told
    def wait(self, timeout: float | None = None) -> Self:
        """Wait for the end of the run, however it ends. The api-server may be away for a minute meanwhile.

        Raises:
            NotReadyError: it has not ended after `timeout` seconds (default: the one that it was started with).
            LabError: Airflow has not answered for a minute, or the lab was stopped.

        """
        if self._seen is None or self._seen.state not in FINAL:
            self._seen = self._cluster.follow(self.dag_id, self.run_id, self._see, self._timeout if timeout is None else timeout)
        return self

    @told
    def wait_for(self, task: str, state: str = "running", timeout: float = PATIENCE) -> LabTask:
        """Wait until a task is in a state, and return it; of a mapped task, the first one that is.

        Raises:
            UnknownTaskError: the run has no such task.
            NotReadyError: it is not in that state after `timeout` seconds, or has ended in another one.
            ValueError: Airflow has no such state.

        """
        if state not in STATES:
            raise ValueError(f"there is no task state {state!r}; {suggest(state, STATES, there_is(STATES))}")
        mine: list[Task] = []

        def probe() -> str | None:
            mine[:] = self._matching(task)
            ended = bool(mine) and all(one.state in ENDED for one in mine)
            return None if ended or any(one.state == state for one in mine) else _brief(mine) or "it is not there yet"

        try:
            wait_until(probe, timeout, task, interval=INTERVAL)
        except NotReadyError:
            raise NotReadyError(
                f"{task} of {self.dag_id} is not {state} after {timeout:g} s: {_brief(mine) or 'it is not there yet'}."
            ) from None
        found = next((one for one in mine if one.state == state), None)
        if found is None:
            raise NotReadyError(f"{task} of {self.dag_id} has ended, and was not seen {state}: {_brief(mine)}.")
        return LabTask(found, self)

    @told
    def task(self, name: str) -> LabTask:
        """Return a task by its id, a mapped one as `work[3]`.

        Raises:
            UnknownTaskError: the run has no such task, or `name` stands for several.

        """
        found = self._matching(name)
        if len(found) > 1:
            raise UnknownTaskError(
                f"{name} is mapped in {self.dag_id}: ask for one of them, such as `task({found[0].name!r})`, or for all with `tasks({name!r})`."
            )
        if not found:
            raise UnknownTaskError(f"the run of {self.dag_id} has no tasks yet; wait for {name} with `wait_for({name!r})`.")
        return LabTask(found[0], self)

    @told
    def tasks(self, name: str | None = None) -> list[LabTask]:
        """Return all tasks in the order in which they started, or all instances of a mapped one.

        Raises:
            UnknownTaskError: the run has no such task.

        """
        return [LabTask(task, self) for task in (self.now.tasks if name is None else self._matching(name))]

    @told
    def history(self, name: str) -> list[LabTask]:
        """Return each try of a task, the first one first; one that was lost with its worker is failed.

        Raises:
            UnknownTaskError: as `task`.

        """
        task = self.task(name)
        tries = self.api.tries(self.dag_id, self.run_id, task.task_id, task.map_index)
        return [LabTask(runs.task_of(one), self) for one in sorted(tries, key=lambda one: int(one["try_number"]))]

    @told
    def overlap(self, one: str, other: str) -> Overlap:
        """Return for how long two tasks ran at the same time, falsy when they did not; of mapped ones, any of their instances.

        Time in which a task waited or was deferred does not count.

        Raises:
            UnknownTaskError: the run has no such task.

        """
        for name in (one, other):
            self._matching(name)
        timeline = self.timeline()
        pairs = [(a, b) for a in _spans(timeline, one) for b in _spans(timeline, other) if a != b]
        seconds = max((min(timeline.until(a), timeline.until(b)) - max(a.start, b.start) for a, b in pairs), default=0.0)
        named = {span: None for name in (one, other) for span in _spans(timeline, name)}
        return Overlap(max(seconds, 0.0), [_stretch(timeline, span) for span in named])

    @told
    def most_at_once(self, name: str | None = None, worker: str | None = None) -> int:
        """Return how many tasks ran at one moment at most: of all, of a mapped one's, or of one worker's.

        Raises:
            UnknownTaskError: the run has no such task.

        """
        if name is not None:
            self._matching(name)
        timeline = self.timeline()
        spans = [span for span in _spans(timeline, name) if worker in {None, span.worker}]
        # Where one ends and the next one starts at one moment, they did not run at once.
        return max((sum(other.start <= span.start < timeline.until(other) for other in spans) for span in spans), default=0)

    @told
    def timeline(self) -> Timeline:
        """Return what the run did to the workers' slots and when, as spans of time."""
        from airflow_celery_lab.timeline import recording

        return recording.timeline(self._cluster, self.dag_id, self.run_id)

    def _see(self, run: Run) -> None:
        self._seen = run

    def _matching(self, name: str) -> list[Task]:
        """Return the tasks of a name; none while the run has no tasks yet."""
        tasks = self.now.tasks
        found = [task for task in tasks if name in {task.name, task.task_id}]
        if not found and tasks:
            if expanding := [task for task in tasks if task.map_index < 0 and name.startswith(f"{task.task_id}[")]:
                return expanding
            known = [task.name for task in tasks]
            raise UnknownTaskError(f"the run of {self.dag_id} has no task {name!r}; {suggest(name, known, there_is(known))}")
        return found


def describe(task: Task) -> str:
    """Return in a few words what became of a task."""
    where = f" on {task.worker}" if task.worker else f" for the queue {task.queue}" if task.state in {"scheduled", "queued"} else ""
    return f"{task.name} {task.state or 'not scheduled'}{where}{f' (try {task.try_number})' if task.try_number > 1 else ''}"


def log_of(api: AirflowApi, run: LabRun, task: Task) -> list[str]:
    """Return the lines of the log of one try of a task.

    Raises:
        AirflowError: Airflow refused the request.

    """
    items = api.log(run.dag_id, run.run_id, task.task_id, task.try_number, task.map_index)
    return [line for item in items for line in _log_lines(item)]


def _log_lines(item: Any) -> Iterable[str]:
    if not isinstance(item, dict):
        yield str(item)
        return
    when, event = str(item.get("timestamp") or ""), str(item.get("event", ""))
    if not when or event.startswith(FOLDS):  # Where Airflow's page has read the log, and what it folds.
        return
    yield f"{when[11:19]} {str(item.get('level') or '').upper()} {event}"
    for exception in item.get("error_detail") or []:
        for frame in exception.get("frames") or []:
            if LIBRARIES not in str(frame.get("filename")):
                yield f"  {frame.get('filename')}:{frame.get('lineno')} in {frame.get('name')}"
        yield f"  {exception.get('exc_type')}: {exception.get('exc_value')}"


def _brief(tasks: Sequence[Task]) -> str:
    more = f"; {len(tasks) - MOST} more" if len(tasks) > MOST else ""
    return "; ".join(map(describe, tasks[:MOST])) + more


def _spans(timeline: Timeline, name: str | None) -> list[Span]:
    return [span for span in timeline.of_kind("running") if name is None or name in {span.name, span.task_id}]


def _stretch(timeline: Timeline, span: Span) -> str:
    start, end = span.start - timeline.start, timeline.until(span) - timeline.start
    return f"{span.name} from {start:.1f} to {end:.1f} s on {span.worker}"
