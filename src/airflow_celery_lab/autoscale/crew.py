"""The workers of one line of the Procfile, more or fewer of them.

One that is to go is drained first: it takes nothing new, and is stopped when two looks in a row find nothing with it, and
nothing on its way to it. So no time limit of a stop ever cuts a task off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from airflow_celery_lab.autoscale import load, policy
from airflow_celery_lab.autoscale.policy import Load
from airflow_celery_lab.cluster import journal
from airflow_celery_lab.cluster.autoscaled import Claim
from airflow_celery_lab.cluster.broker import Hold
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import demand, environment, names, procfile
from airflow_celery_lab.configuration.procfile import Line, Processes
from airflow_celery_lab.supervision import wanted
from airflow_celery_lab.supervision.supervisord import ALIVE

#: Seconds in which a new worker takes its memory: until then it counts as one that is still to come.
SETTLING = 20.0
#: Is told what is done, in sentences.
Say = Callable[[str], None]


class Scene(NamedTuple):
    """What one look has found."""

    processes: Processes  #: that supervisord runs
    states: Mapping[str, str]  #: supervisord's, by process
    lines: Sequence[Line]  #: of the Procfile
    loads: Mapping[str, int]  #: tasks by queue


class Crew:
    """The workers of one line."""

    def __init__(self, cluster: Cluster, environ: Mapping[str, str], claim: Claim, say: Say) -> None:
        self.claim = claim
        self._cluster = cluster
        self._say = say
        self._sizes = environment.sizes(cluster.lab, environ)
        self._default_queue = environment.default_queue(cluster.lab, environ)
        self._loads: list[Load] = []
        self._count = 0
        self._draining = ""
        #: The last look found nothing with the worker that is drained.
        self._was_idle = False
        #: Is to listen to its queues again, and has not confirmed that.
        self._returning = claim.left
        self._is_short = False
        #: Until when workers settle, and how many there were before them.
        self._settled = (0.0, 0)

    @property
    def line(self) -> str:
        """The name of the line."""
        return self.claim.note.line

    def look(self, scene: Scene) -> None:
        """Do what the load asks for, and write down how it stands.

        Raises:
            LabError: the Procfile has no such line any more, or the lab has ended.

        """
        lines = _as_it_runs(self.line, scene)
        service = procfile.require_line(lines, self.line).service
        slots, queues = demand.slots(service, self._sizes), service.queues or (self._default_queue,)
        workers = self._workers(scene)
        self._count = len(workers)
        if self._draining not in workers[-1:]:  # Somebody else has removed it.
            self._draining = ""
        serving = len(workers) - bool(self._draining)
        self._loads = policy.recent(self._loads, Load(time.monotonic(), load.on(queues, scene.loads)))
        decision = policy.decide(self._loads, serving, self.claim.note.range, slots)
        why = decision.why
        if self._draining and decision.wanted > serving:
            self._take_back(decision.why)
            serving += 1
        elif not self._draining and decision.wanted < serving:
            self._drain(workers[-1], decision.why)
        if decision.wanted > serving:
            why += self._add(scene._replace(lines=lines), serving, decision.wanted, decision.why)
        else:
            self._is_short = False
        if self._draining:
            why += self._finish(scene._replace(lines=lines), queues)
        self._confirm(workers, queues)
        self.claim.update(wanted=decision.wanted, actual=self._count, why=why, draining=self._draining)

    def interrupt(self, reason: str) -> None:
        """Take in that nobody can say how great the load is: what was seen before tells nothing of the time until the next look."""
        self._loads = []
        self._was_idle = False
        self.claim.update(why=f"not known: {reason}")

    def let_go(self) -> None:
        """Give a worker that is drained its queues back, and the line to others."""
        record = self._cluster.records.get(self._draining) if self._draining else None
        if record is not None and record.state == "running":
            self._ask(lambda: self._cluster.broker.return_to(record.name, record.queues))
        self.claim.release()

    def _workers(self, scene: Scene) -> list[str]:
        count = wanted.count(scene.processes, scene.lines, self.line)
        return [names.instance_name(self.line, number) for number in range(1, count + 1)]

    def _add(self, scene: Scene, before: int, count: int, why: str) -> str:
        """Start workers until there are `count`, as far as there is memory for them; return what is to be said of that."""
        target, last, shortage = scene.processes, before, None
        until, settled = self._settled
        if time.monotonic() > until:
            settled = before
        running = wanted.scaled(scene.processes, scene.lines, {self.line: settled})
        for number in range(before + 1, count + 1):
            wider = wanted.scaled(scene.processes, scene.lines, {self.line: number})
            if shortage := self._cluster.shortage(wider, running):
                break
            target, last = wider, number
        if last > before:
            self._change(scene.processes, target, "added", last)
            self._settled = (time.monotonic() + SETTLING, settled)
            self._say(f"{self.line}: {_workers(last)}, was {before}: {why}")
        if shortage and not self._is_short:
            self._say(f"{self.line}: {_workers(last)}, and not {count}: {shortage}")
        self._is_short = shortage is not None
        return f"; {shortage}" if shortage else ""

    def _drain(self, worker: str, why: str) -> None:
        self._draining, self._was_idle = worker, False
        if self._returning == worker:
            self._returning = ""
        journal.note(self._cluster.lab.state, "autoscaler drains", [worker])
        self._say(f"{self.line}: {worker} takes no new tasks: {why}")

    def _take_back(self, why: str) -> None:
        worker = self._returning = self._draining
        self._draining = ""
        journal.note(self._cluster.lab.state, "autoscaler keeps", [worker])
        self._say(f"{self.line}: {worker} takes tasks again: {why}")

    def _finish(self, scene: Scene, queues: Sequence[str]) -> str:
        """Stop the worker that is drained, when it has nothing left; return what is to be said of it."""
        worker = self._draining
        if scene.states.get(worker) in ALIVE:
            hold = self._hold(worker)
            idle = hold is not None and not hold.tasks and not hold.queues.intersection(queues)
            if hold is not None and hold.queues.intersection(queues):  # Also one that was started afresh.
                self._ask(lambda: self._cluster.broker.leave(worker, queues))
            was_idle, self._was_idle = self._was_idle, idle
            if not (idle and was_idle):
                return f"; {worker} ends when it has no tasks" if hold else f"; {worker}, which is to end, does not answer"
        fewer = wanted.scaled(scene.processes, scene.lines, {self.line: self._count - 1})
        self._change(scene.processes, fewer, "removed", self._count - 1)
        self._draining = ""
        self._say(f"{self.line}: {_workers(self._count)}, was {self._count + 1}: {worker} had nothing left to do")
        return ""

    def _confirm(self, workers: Sequence[str], queues: Sequence[str]) -> None:
        """See that the worker that was taken back listens to its queues; it may not have heard."""
        worker = self._returning
        if not worker:
            return
        hold = self._hold(worker) if worker in workers else None
        if worker not in workers or (hold and hold.queues.issuperset(queues)):
            self._returning = ""
        elif hold:
            self._ask(lambda: self._cluster.broker.return_to(worker, queues))

    def _hold(self, worker: str) -> Hold | None:
        return self._ask(lambda: self._cluster.broker.hold(worker))

    def _ask(self, question: Callable[[], Hold | None]) -> Hold | None:
        try:
            return question()
        except Exception:  # noqa: BLE001  # kombu and redis raise many kinds; the next look asks again
            return None

    def _change(self, current: Processes, target: Processes, what: str, count: int) -> None:
        plan = wanted.plan(current, target)
        journal.note(self._cluster.lab.state, f"autoscaler {what}", [*plan.added, *plan.removed])
        self._cluster.supervisor.apply(target)
        self._count = count


def _as_it_runs(name: str, scene: Scene) -> list[Line]:
    """Return the lines of the Procfile, this one with the command of its workers: an edited Procfile counts when it is applied.

    Raises:
        ProcfileError: there is no such line.

    """
    line = procfile.require_line(scene.lines, name)
    command = scene.processes.get(name, line.command)
    running = line._replace(command=command, service=procfile.service_of(command))
    return [running if other.name == name else other for other in scene.lines]


def _workers(count: int) -> str:
    return f"{count or 'no'} worker{'' if count == 1 else 's'}"
