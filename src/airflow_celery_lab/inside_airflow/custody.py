"""Who has each task that was sent: a queue, a worker, or nobody. What was seen goes in, what to do comes out.

Nothing is asked here. A task is given up for what is known, not for a silence: its worker has ended, its message is
nowhere, no worker listens to its queue. Time counts only while somebody watches: after a pause of the scheduler, of
all processes or of the machine, nobody is late who could not speak.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, TypeVar

from airflow_celery_lab.configuration import names
from airflow_celery_lab.inside_airflow.machines import LAPSED, Machine, Machines, Worker

Key = TypeVar("Key", bound=Hashable)

#: What Airflow says of a task: its message was sent; a worker has begun; Airflow waits for it no longer.
QUEUED, RUNNING, OVER = "queued", "running", "over"
#: Seconds between two looks, and between those that concern something suspicious, or an outage of Redis.
INTERVAL, SOON = 3.0, 1.0
#: Seconds until the next look, at most, while a worker does not answer that should have: each costs the scheduler a second.
#: One that reconnects answers soon, one that is paused may never; so it grows by SOON from look to look.
PATIENT = 5.0
#: Seconds within which a worker that was started may be busy with that; until it has answered once it has taken nothing.
YOUNG = 60.0
#: Seconds between two looks that count as watched; the scheduler looks more often, and stood still in the rest.
GAP = 10.0
#: Seconds between the two looks that must both find a message nowhere: it may be on its way from its queue to a worker.
TWICE = 1.0
#: Seconds for which an answer to "who listens" holds, while all is well.
CONFIRMED = 10.0
#: Seconds after which a worker elsewhere is gone, if neither it answers nor its task reports; Airflow alone gives a task up
#: after 300. Nobody holds its record here, and its machine, if it has joined, has no lease: it has left.
AWAY = 60.0
#: Seconds by which a task's latest report may be older than what was watched of its silence: more than between two looks.
SLACK = 5.0


class Task(NamedTuple):
    """A task that was sent to Celery."""

    state: str  #: QUEUED, RUNNING or OVER
    message: str  #: Celery's id
    queue: str
    worker: str = ""  #: of a running one, by name
    here: bool = True  #: that worker is, or was, one of this machine's
    incarnation: int | None = None  #: of the worker that its process descends from; None if there is no such process
    started: float = 0.0  #: seconds since the epoch
    heartbeat: float | None = None  #: the latest, in seconds since the epoch


class Answer(NamedTuple):
    """What a worker has answered."""

    held: Collection[str] = ()  #: those of the messages it was asked for that it has taken
    queues: Collection[str] | None = None  #: that it listens to; None if that was not asked


def held(found: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Return which messages a worker has, of those that it has found, each with a state first.

    After an outage of Redis it also finds, as `ready`, what it had taken before and threw away then: Celery forgets to
    forget that (5.6, `Consumer.on_close`).
    """
    return tuple(message for message, (state, *_) in found.items() if state in ("reserved", "active"))


@dataclass(frozen=True)
class Sight(Generic[Key]):
    """One look."""

    now: float  #: seconds, on a clock that does not jump
    wall: float  #: seconds since the epoch
    workers: Mapping[str, Worker]  #: this machine's, by name
    tasks: Mapping[Key, Task]
    waiting: Collection[str] | None  #: messages in their queues; None if Redis did not answer
    answers: Mapping[str, Answer] | None = None  #: by worker, of those who answered; None if nobody was asked
    machines: Mapping[str, Machine] = field(default_factory=dict)  #: that have joined, by name


@dataclass(frozen=True)
class Questions:
    """What only the workers can say."""

    messages: list[str]  #: who has these
    listeners: bool  #: who listens to which queues
    ping: bool  #: who is there at all
    expected: frozenset[str] = frozenset()  #: workers that live, and should answer
    newcomers: frozenset[str] = frozenset()  #: workers that may not be able to yet

    def __bool__(self) -> bool:
        """Return whether there is anything to ask."""
        return bool(self.messages) or self.listeners or self.ping


@dataclass(frozen=True)
class Verdict(Generic[Key]):
    """What to do."""

    lost: list[Key]  #: running, and their worker is gone: they fail
    missing: list[Key]  #: sent, and their message is nowhere: it is sent again, or forgotten if the task is over
    unheard: list[Key]  #: waiting on a queue that no worker has listened to for too long: they fail
    silence: dict[Key, float]  #: seconds of it that were watched, where the latest report is older than that
    next_look: float = field(default=INTERVAL, compare=False)  #: seconds until then


class Custody(Generic[Key]):
    """Remembers who had what."""

    def __init__(self, listener_timeout: float) -> None:
        """Let tasks wait for a listener for `listener_timeout` seconds, 0: without an end."""
        self._listener_timeout = listener_timeout
        self._looked: float | None = None
        self._watched = 0.0
        self._workers: dict[Key, tuple[str, int | None]] = {}
        self._nowhere: dict[tuple[Key, str], float] = {}
        self._confirmed: dict[str, float] = {}
        self._unheard: dict[Key, float] = {}
        self._reports: dict[Key, tuple[float, float]] = {}
        self._ours: set[str] = set()
        self._heard: set[tuple[str, int | None]] = set()
        self._others: set[str] = set()
        self._absent: dict[str, float] = {}
        self._patience = 0.0
        self._machines = Machines()

    def questions(self, sight: Sight[Key]) -> Questions:
        """Return what `observe` needs to know from the workers to judge this look."""
        if sight.waiting is None:
            return Questions([], listeners=False, ping=False)
        queues = {task.queue for task in sight.tasks.values() if task.message in sight.waiting}
        sight = self._whole(sight)
        fresh = {queue for queue, moment in self._confirmed.items() if self._watched - moment < CONFIRMED}
        return Questions(
            [task.message for task in _unplaced(sight).values()],
            listeners=bool(self._listener_timeout and queues - fresh),
            ping=any(task.state == RUNNING and not task.here for task in sight.tasks.values()),
            expected=frozenset(name for name in sight.workers if self._should_answer(name, sight))
            | {name for name in self._others if not self._gone(name)},
            newcomers=frozenset(name for name in sight.workers if not self._should_answer(name, sight)),
        )

    def observe(self, sight: Sight[Key]) -> Verdict[Key]:
        """Take in one look."""
        if self._looked is not None:
            self._watched += min(sight.now - self._looked, GAP)
        self._looked = sight.now
        sight = self._whole(sight)
        self._forget(sight)
        self._note_reports(sight)
        self._note_absence(sight)
        lost, missing, unheard, silence = self._lost(sight), self._missing(sight), self._without_listener(sight), self._silence(sight)
        return Verdict(lost, missing, unheard, silence, self._next_look(sight))

    def _whole(self, sight: Sight[Key]) -> Sight[Key]:
        """Return a look with the workers of machines that speak for them among this machine's: as much is known of them."""
        now = self._watched if self._looked is None else self._watched + min(sight.now - self._looked, GAP)
        self._machines.note(None if sight.waiting is None else sight.machines, now)
        tasks = {
            key: task if task.here else task._replace(here=self._machines.speaks(task.worker, now)) for key, task in sight.tasks.items()
        }
        return replace(sight, workers={**sight.workers, **self._machines.workers(now)}, tasks=tasks)

    def _next_look(self, sight: Sight[Key]) -> float:
        if sight.answers is not None:
            self._patience = min(self._patience + SOON, PATIENT) if self._reticent(sight) else 0.0
            if self._patience:
                return self._patience
        return SOON if self._nowhere or sight.waiting is None else INTERVAL

    def _forget(self, sight: Sight[Key]) -> None:
        for memory in (self._workers, self._unheard, self._reports):
            for key in [key for key in memory if key not in sight.tasks]:
                memory.pop(key)

    def _note_absence(self, sight: Sight[Key]) -> None:
        """Note since when the workers of other machines have not answered; none of them is known before it has spoken."""
        self._ours.update(name for name in sight.workers if names.machine_of(name) is None)
        if sight.answers is None:
            return
        self._heard = {(name, worker.incarnation) for name, worker in sight.workers.items()} & (
            self._heard | {(name, sight.workers[name].incarnation) for name in sight.answers if name in sight.workers}
        )
        self._others |= {task.worker for task in sight.tasks.values() if task.state == RUNNING and not task.here}
        self._others = (self._others | set(sight.answers)) - self._ours
        self._absent = {name: self._absent.get(name, self._watched) for name in self._others - set(sight.answers)}

    def _gone(self, name: str) -> bool:
        """Return whether a worker elsewhere that does not answer has ended, as far as that can be known."""
        if name not in self._absent:
            return False
        absent, silence = self._watched - self._absent[name], self._machines.silence(name, self._watched)
        if silence is None:
            return absent >= AWAY
        if self._machines.speaks(name, self._watched):
            return name not in self._machines.workers(self._watched)
        return min(absent, silence) >= LAPSED

    def _lost(self, sight: Sight[Key]) -> list[Key]:
        running = {key: task for key, task in sight.tasks.items() if task.state == RUNNING}
        return [key for key, task in running.items() if (self._has_ended(key, task, sight) if task.here else self._is_away(key, task))]

    def _has_ended(self, key: Key, task: Task, sight: Sight[Key]) -> bool:
        worker = sight.workers.get(task.worker)
        if worker is None:
            return True
        # A task that was deferred or sent again has another message, and perhaps another worker.
        if key not in self._workers or self._workers[key][0] != task.message:
            # Seen for the first time. Its process says whose it is; if that has ended, the clock does.
            former = task.incarnation is None and task.started < worker.started
            self._workers[key] = task.message, None if former else worker.incarnation
        return worker.incarnation is not None and worker.incarnation != self._workers[key][1]

    def _is_away(self, key: Key, task: Task) -> bool:
        has_lease = self._machines.silence(task.worker, self._watched) is not None
        return self._gone(task.worker) and self._silent(key) >= (LAPSED if has_lease else AWAY)

    def _missing(self, sight: Sight[Key]) -> list[Key]:
        if sight.waiting is None:
            self._nowhere = {}
            return []
        answers = sight.answers or {}
        held = {message for answer in answers.values() for message in answer.held}
        nowhere = {key: task for key, task in _unplaced(sight).items() if task.message not in held and not self._may_be_held(task, sight)}
        # The message is a part of it: one that was sent again is another one.
        suspects = {(key, task.message) for key, task in nowhere.items()}
        self._nowhere = {suspect: self._nowhere.get(suspect, self._watched) for suspect in suspects}
        return [key for (key, _), since in self._nowhere.items() if self._watched - since >= TWICE]

    def _may_be_held(self, task: Task, sight: Sight[Key]) -> bool:
        """Return whether a worker that does not answer may live and have it."""
        return any(task.queue in worker.queues for worker in self._reticent(sight)) or any(not self._gone(name) for name in self._absent)

    def _reticent(self, sight: Sight[Key]) -> list[Worker]:
        """Return this lab's workers that should have answered, and have not."""
        return [worker for name, worker in sight.workers.items() if name not in (sight.answers or ()) and self._should_answer(name, sight)]

    def _should_answer(self, name: str, sight: Sight[Key]) -> bool:
        worker = sight.workers[name]
        return worker.far or (name, worker.incarnation) in self._heard or sight.wall - worker.started > YOUNG

    def _without_listener(self, sight: Sight[Key]) -> list[Key]:
        if not self._listener_timeout or sight.waiting is None:
            return []
        if sight.answers is not None:
            heard = {queue for answer in sight.answers.values() for queue in answer.queues or ()}
            # One that is paused, finishes its tasks or reconnects will take what waits, or its successor will.
            silent = [worker for name, worker in sight.workers.items() if worker.leaves or name not in sight.answers]
            heard |= {queue for worker in silent for queue in worker.queues}
            self._confirmed.update(dict.fromkeys(heard, self._watched))
        late = []
        for key, task in sight.tasks.items():
            confirmed = self._confirmed.get(task.queue)
            if task.message not in sight.waiting or (confirmed is not None and self._watched - confirmed < CONFIRMED):
                self._unheard.pop(key, None)
            elif self._watched - self._unheard.setdefault(key, self._watched) >= self._listener_timeout:
                late.append(key)
        return late

    def _note_reports(self, sight: Sight[Key]) -> None:
        for key, task in sight.tasks.items():
            if (
                task.state == RUNNING
                and task.heartbeat is not None
                and (key not in self._reports or self._reports[key][0] != task.heartbeat)
            ):
                self._reports[key] = (task.heartbeat, self._watched)

    def _silent(self, key: Key) -> float:
        return self._watched - self._reports[key][1] if key in self._reports else 0.0

    def _silence(self, sight: Sight[Key]) -> dict[Key, float]:
        return {
            key: self._silent(key)
            for key, task in sight.tasks.items()
            if task.state == RUNNING and task.heartbeat is not None and sight.wall - task.heartbeat > self._silent(key) + SLACK
        }


def _unplaced(sight: Sight[Key]) -> dict[Key, Task]:
    """Return the tasks that a worker should have, as they neither wait nor run."""
    return {key: task for key, task in sight.tasks.items() if task.state != RUNNING and task.message not in (sight.waiting or ())}
