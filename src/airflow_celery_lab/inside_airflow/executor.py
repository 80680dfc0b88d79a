"""Airflow's CeleryExecutor, which also knows where its tasks are: who has each, and what became of that worker.

Airflow alone waits for silences to grow long: 300 s until a task whose worker is gone is given up, 600 s until a lost
message is sent again; and a silence has other causes. Here a task fails when its worker has ended, a message is sent
again when it is nowhere, and a task on a queue without a listener fails with that reason. The rules are in `custody`;
this asks and acts. The scheduler loads it (`[core] executor`).
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.configuration import conf
from airflow.executors.workloads import ExecuteTask
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.providers.celery.executors.celery_executor import CeleryExecutor
from airflow.utils.helpers import log_filename_template_renderer
from sqlalchemy.exc import SQLAlchemyError

from airflow_celery_lab.configuration import debugger, demand, links, names, services, settings
from airflow_celery_lab.inside_airflow import custody, health, instances, pauses
from airflow_celery_lab.inside_airflow.agenda import Agenda
from airflow_celery_lab.inside_airflow.custody import Custody, Sight, Task, Verdict
from airflow_celery_lab.inside_airflow.machines import QUIET, Machine, Worker
from airflow_celery_lab.inside_airflow.messages import OUTAGE, Messages
from airflow_celery_lab.inside_airflow.result_backend import ResultBackend
from airflow_celery_lab.launcher import process_table, registry
from airflow_celery_lab.launcher.lease import Lease
from airflow_celery_lab.launcher.registry import Record

if TYPE_CHECKING:
    from airflow.executors import workloads
    from airflow.models.taskinstance import TaskInstance

#: Seconds for which it is remembered that a task was cut off; a retry may come much later, or never.
LATER = 3600.0


class _Sent(NamedTuple):
    queue: str
    log: Path | None
    workload: Any  #: of Airflow's; None if a former scheduler sent it


class LabCeleryExecutor(CeleryExecutor):
    """A CeleryExecutor that knows the lab's workers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]  # Airflow's own is untyped
        self._settings = settings.load(os.environ)
        self._sent: dict[Any, _Sent] = {}  # By Airflow's key of the task or callback.
        self._custody: Custody[Any] = Custody(self._settings.listener_timeout)
        self._messages = Messages(self.celery_app)
        self._records: dict[str, Record] = {}
        self._leases: dict[str, Lease] = {}
        self._cut_off: dict[Any, float] = {}
        self._next = 0.0
        self._slots = self._slots_elsewhere = 0
        self._pulse = health.Pulse(conf.getint("scheduler", "scheduler_health_check_threshold"))
        self._pauses = pauses.before(conf.getfloat("scheduler", "scheduler_idle_sleep_time"), users=pauses.VARIABLE in os.environ)
        self._sends = False
        self._worked = time.monotonic()
        self._agenda = Agenda()
        self._ending = False
        # Before Airflow judges a silence, it is looked at.
        self._silent = conf.getint("scheduler", "task_instance_heartbeat_timeout") / 2

    def start(self) -> None:
        """Take over what processes had that have ended: this scheduler's predecessor is one of them."""
        super().start()
        if isinstance(self.celery_app.backend, ResultBackend):  # A user may have another.
            self.celery_app.backend.keep_connection()
        self._remember(registry.running(self._settings.state))
        self._end_jobs(os.environ.get(names.VARIABLE))
        if names.HEALTH_CHECK in os.environ and not conf.getboolean("scheduler", "enable_health_check"):  # Airflow's own server
            host = conf.get_mandatory_value("scheduler", "scheduler_health_check_server_host")
            health.serve(self._pulse, host, conf.getint("scheduler", "scheduler_health_check_server_port"))

    def _process_workloads(self, workload_items: Sequence[workloads.All]) -> None:
        """Send what is due; it stays with the executor while Redis is away, where Airflow alone would fail it after seconds."""
        if not self._can_send(len(workload_items)):
            return
        for workload in workload_items:
            if isinstance(workload, ExecuteTask):
                if self._is_debugged(workload.ti):
                    workload.ti.queue = debugger.QUEUE
                log = _logs() / workload.log_path if workload.log_path else None
                self._sent[workload.ti.key] = _Sent(workload.ti.queue, log, workload)
            elif (callback := getattr(workload, "callback", None)) is not None:
                data = callback.data if isinstance(callback.data, Mapping) else {}
                queue = data.get("queue") or conf.get_mandatory_value("operators", "default_queue")
                self._sent[callback.key] = _Sent(queue, None, workload)
        self._sends = True
        super()._process_workloads(workload_items)
        self._prefer([workload.ti.key for workload in workload_items if isinstance(workload, ExecuteTask)])

    def _can_send(self, count: int) -> bool:
        try:
            with self._messages.deadline():
                self._messages.reach()
        except OUTAGE as error:
            self.log.warning("Cannot send %d tasks yet, Redis does not answer: %s", count, error)
            return False
        return True

    def _is_debugged(self, instance: Any) -> bool:
        """Return whether a task goes to the debugger's worker, whatever queue its DAG names."""
        session = debugger.session(self._settings.state)
        return (
            session is not None
            and session.takes(instance.dag_id, instance.run_id, instance.task_id)
            and debugger.NAME in registry.running(self._settings.state)
        )

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Take over the tasks of a scheduler that has ended, and remember their queues."""
        self._sent.update({instance.key: _Sent(instance.queue or "", _log_of(instance), None) for instance in tis})
        return super().try_adopt_task_instances(tis)

    def sync(self) -> None:
        """Ask for the state of what was sent; give up what is known to be lost."""
        super().sync()
        self._pulse.beat()
        if self.job_id is None:  # `dag.test()`, which waits by itself.
            return
        # Not after the look: Airflow gives up silent tasks soon after this, and all are silent when the machine has slept meanwhile.
        self._sleep()
        records = registry.running(self._settings.state)
        changed = {name: record.pid for name, record in records.items()} != {name: record.pid for name, record in self._records.items()}
        self._remember(records)
        now = time.monotonic()
        try:
            if changed:
                self._end_jobs(None)
            if self.workloads and (changed or now >= self._next or instances.is_anyone_silent(self._job, self._silent)):
                self._next = now + custody.INTERVAL
                self._look(now)
        except SQLAlchemyError as error:  # The next look is soon; the scheduler must not end for it.
            self.log.warning("Cannot look after the tasks that were sent, Postgres does not answer: %s", error)

    def end(self, synchronous: bool = False) -> None:  # noqa: FBT001  # Airflow's own
        """Ask for the state of what was sent a last time, and rest no more."""
        self._ending = True
        super().end(synchronous)

    def _sleep(self) -> None:
        """Let the scheduler sleep longer than it is set to where that keeps nobody waiting."""
        if self._ending:
            return
        if self.running or self.event_buffer:
            self._worked = time.monotonic()
            if len(self.running) > self._slots + self._slots_elsewhere:
                time.sleep(self._pauses.idle)
            elif not self._sends and not self.event_buffer:
                time.sleep(self._pauses.pace)
            self._sends = False
        elif self._pauses.rest and time.monotonic() - self._worked > pauses.CALM:
            if self._agenda.rest(self._pauses.rest, pauses.LOOK):
                self._worked = time.monotonic()
        elif self._pauses.idle:
            self._agenda.await_news(self._pauses.idle, pauses.LOOK)

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Take back what was queued for too long, with its message."""
        self._take_back([ti.key])

    @property
    def _job(self) -> int:
        """The scheduler's, which Airflow sets before `start`; 0 where there is none (`dag.test()`)."""
        return int(self.job_id or 0)

    def _remember(self, records: Mapping[str, Record]) -> None:
        self._records = dict(records)
        sizes = demand.Sizes(slots=conf.getint("celery", "worker_concurrency"))
        self._slots = demand.of([services.describe(record.command) for record in records.values()], sizes).slots

    def _prefer(self, keys: Sequence[TaskInstanceKey]) -> None:
        """Let tasks that were cut off not wait again behind those that came after them."""
        for key in keys:
            if self._cut_off.pop(key.primary, None) is not None and key in self.workloads:
                with suppress(*OUTAGE), self._messages.deadline():
                    self._messages.move_to_head(self._sent[key].queue, self.workloads[key].task_id)

    def _note_cut_off(self, key: TaskInstanceKey) -> None:
        now = time.monotonic()
        self._cut_off = {former: moment for former, moment in self._cut_off.items() if now - moment < LATER}
        self._cut_off[key.primary] = now

    def _look(self, now: float) -> None:
        rows: Mapping[Any, instances.Instance] = instances.pending(self._job)
        tasks = {key: self._task(key, rows.get(key)) for key in self.workloads}
        unsent = {*self.queued_tasks, *getattr(self, "queued_callbacks", ())}  # Airflow 3.1 has no callbacks.
        self._sent = {key: sent for key, sent in self._sent.items() if key in tasks or key in unsent}
        sight = Sight(now, time.time(), self._workers(), tasks, waiting=None)
        try:
            with self._messages.deadline():
                waiting = self._messages.waiting({task.queue for task in tasks.values()})
                sight = replace(sight, waiting=waiting, machines=self._machines(tasks.values()))
                if questions := self._custody.questions(sight):
                    sight = replace(sight, answers=self._messages.ask(questions))
        except OUTAGE as error:
            self.log.warning("Cannot see what waits in the queues, Redis does not answer: %s", error)
            sight = replace(sight, waiting=None, answers=None)
        verdict = self._custody.observe(sight)
        self._next = now + verdict.next_look
        self._act(verdict, rows, tasks)

    def _task(self, key: Any, row: instances.Instance | None) -> Task:
        message, queue = self.workloads[key].task_id, self._sent[key].queue if key in self._sent else ""
        if row is None or row.queued:
            # Airflow's database says nothing here of callbacks: their message says it all.
            return Task(custody.QUEUED if row or not isinstance(key, TaskInstanceKey) else custody.OVER, message, queue)
        return Task(
            custody.RUNNING,
            message,
            queue,
            worker=row.worker,
            here=self._settings.state.lock(row.worker).exists(),
            incarnation=self._incarnation(row),
            started=row.started,
            heartbeat=row.heartbeat,
        )

    def _workers(self) -> dict[str, Worker]:
        spoilt = links.read(self._settings.state).condition("redis") != links.CLEAN
        workers = {
            name: Worker(record.pid, record.started, frozenset(record.queues), record.state == "stopping", far=record.linked and spoilt)
            for name, record in self._records.items()
            if record.queues
        }
        nameless = [name for name, lives in registry.known(self._settings.state).items() if lives and name not in self._records]
        return {**workers, **dict.fromkeys(nameless, Worker(None, 0.0, frozenset()))}

    def _machines(self, tasks: Iterable[Task]) -> dict[str, Machine]:
        """Return what machines that have joined say; nobody can join a lab that is not exposed."""
        self._leases, self._slots_elsewhere = {}, 0
        if not self._settings.state.exposure.exists() and not any(names.machine_of(task.worker) for task in tasks):
            return {}
        self._leases = self._messages.machines()
        self._slots_elsewhere = sum(worker.slots for one in self._leases.values() if one.age < QUIET for worker in one.workers.values())
        return {
            name: Machine(
                (one.key, one.renewals),
                {worker: Worker(there.pid, there.started, frozenset(there.queues), there.leaves) for worker, there in one.workers.items()},
            )
            for name, one in self._leases.items()
        }

    def _incarnation(self, row: instances.Instance) -> int | None:
        """Return the launcher that a task's process descends from, if both are there."""
        record = self._records.get(row.worker)
        pid = row.pid
        while record and pid and pid != record.pid:
            pid = process_table.parent_of(pid)
        return record.pid if record and pid else None

    def _act(self, verdict: Verdict[Any], rows: Mapping[Any, instances.Instance], tasks: Mapping[Any, Task]) -> None:
        if verdict.silence:
            instances.renew({rows[key].id: seconds for key, seconds in verdict.silence.items()})
        for key in verdict.lost:
            reason = self._reason(tasks[key].worker)
            instances.note(key, "worker lost", reason)
            self._note_cut_off(key)
            self._fail(key, reason)
        if verdict.missing:
            self._recover(verdict.missing, rows)
        if given_up := {*verdict.lost, *verdict.unheard}:
            with suppress(*OUTAGE), self._messages.deadline():
                self._messages.remove({tasks[key].message for key in given_up}, {tasks[key].queue for key in given_up})
        for key in verdict.unheard:
            self._fail(key, _nobody_listens(tasks[key].queue, self._settings.listener_timeout))

    def _recover(self, keys: Collection[Any], rows: Mapping[Any, instances.Instance]) -> None:
        """Send again what is nowhere; forget it if Airflow no longer waits for it."""
        reason = f"Its message was lost: it was in no queue and with no worker at {_time()}; it is sent again."
        callbacks = {key: self._sent[key].workload for key in keys if not isinstance(key, TaskInstanceKey) and key in self._sent}
        waited = instances.send_again({key: rows[key].id for key in keys if key in rows}, reason)
        begun = {key for key in keys if key in rows} - waited  # Since the look.
        self._take_back([key for key in keys if key not in begun])
        for key, workload in callbacks.items():
            self.log.warning("A callback: %s", reason)
            self.queued_callbacks[key] = workload
        for key in waited:
            self._note_cut_off(key)
            self.log.warning("%s.%s: %s", key.dag_id, key.task_id, reason)

    def _take_back(self, keys: Collection[Any]) -> None:
        """Forget that tasks were sent, and let no worker begin one whose message it has after all."""
        messages, queues = set(), set()
        for key in keys:
            result, sent = self.workloads.pop(key, None), self._sent.get(key)
            self.running.discard(key)
            self.queued_tasks.pop(key, None)
            if result is not None:
                messages.add(result.task_id)
                queues.update([sent.queue] if sent is not None else [])
        if messages:
            with suppress(*OUTAGE), self._messages.deadline():
                self._messages.revoke(messages)
                self._messages.remove(messages, queues)

    def _fail(self, key: Any, reason: str) -> None:
        self.log.warning("%s: %s", f"{key.dag_id}.{key.task_id}" if isinstance(key, TaskInstanceKey) else "A callback", reason)
        sent = self._sent.get(key)
        if sent is not None and sent.log is not None:
            _append(sent.log, reason)
        self.fail(key, reason)

    def _reason(self, worker: str) -> str:
        machine = names.machine_of(worker)
        if machine is not None and machine in self._leases and self._leases[machine].age > QUIET:
            silence = f"{self._leases[machine].age:.0f} s"
            return f"{worker} was lost at {_time()}: for {silence} nothing was heard of {machine}, of the worker or of its task."
        status = registry.ends(self._settings.state).get(worker)
        if status is None:
            how = "its processes have ended" if worker not in self._records else "its processes have ended, and were started anew"
        elif status - 128 in set(signal.Signals):  # As shells count, and the launcher does.
            how = f"its process ended with signal {status - 128} ({signal.Signals(status - 128).name})"
        else:
            how = f"its process ended with exit status {status}"
        return f"{worker} was lost at {_time()}: {how}."

    def _end_jobs(self, own: str | None) -> None:
        """Mark the jobs of the lab's processes that have ended, so that others take over what they had."""
        state = self._settings.state
        ended: dict[str, float | None] = {name: None for name, lives in registry.known(state).items() if not lives}
        ended.update({name: record.started for name, record in self._records.items()})
        if own is not None:
            ended[own] = None
        if count := instances.end_jobs(ended, self._job):
            self.log.info("Marked %d jobs of processes that have ended", count)


def _nobody_listens(queue: str, timeout: float) -> str:
    if services.QUEUE.fullmatch(queue):
        advice = "add it to a worker's --queues in the Procfile, correct the queue's name in the DAG,"
    else:
        advice = "give it in the DAG a name of letters, digits, '_', '-' and '.', which a worker's line in the Procfile can have,"
    return (
        f"No worker has listened to the queue {queue!r} for {timeout:g} s; {advice} or set LAB_LISTENER_TIMEOUT=0 to let such tasks wait."
    )


def _time() -> str:
    return datetime.now(timezone.utc).strftime("%H:%M:%S UTC")


def _logs() -> Path:
    return Path(conf.get_mandatory_value("logging", "base_log_folder"))


def _log_of(instance: TaskInstance) -> Path | None:
    """Return where a task's log is, by Airflow's own template; None for a template of the user's that it has no words for."""
    with suppress(Exception):  # Whatever the template asks for.
        return _logs() / log_filename_template_renderer()(ti=instance)
    return None


def _append(log: Path, reason: str) -> None:
    """Write it where a user looks first: in the task's own log, in Airflow's format."""
    line = {"timestamp": datetime.now(timezone.utc).isoformat(), "level": "error", "event": reason, "logger": __name__}
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
