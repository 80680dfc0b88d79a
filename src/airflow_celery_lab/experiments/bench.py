"""What an experiment works with: DAGs and workers of its own in a running lab, and a clock. Leaves the lab as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from airflow_celery_lab.cluster import journal, runs
from airflow_celery_lab.cluster.broker import Worker
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import environment, procfile
from airflow_celery_lab.configuration.links import CLEAN, Condition
from airflow_celery_lab.configuration.procfile import Processes
from airflow_celery_lab.errors import CannotTellError, NotReadyError
from airflow_celery_lab.experiments.experiment import Step
from airflow_celery_lab.experiments.published import Published, alone
from airflow_celery_lab.experiments.worker_line import QUEUE, WorkerLine
from airflow_celery_lab.inside_airflow import experiment_groups
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.supervision import wanted
from airflow_celery_lab.timeline import recording, spans
from airflow_celery_lab.timeline.spans import Timeline
from airflow_celery_lab.wait import wait_until

#: The name of each of an experiment's own workers, but for its number.
WORKER = "experiment-{}"
#: Seconds after which a part of an experiment is ended, finished or not.
PATIENCE = 120.0
#: Seconds in which all of the lab is ready again when what was away is back.
RECOVERY = 120.0
#: supervisord's states of what was started.
STARTED = ("STARTING", "RUNNING")
#: Is told what goes on: what was done, and what is waited for.
OnStep = Callable[[str], None]


class Bench:
    """A running lab, in which an experiment runs tasks and workers of its own."""

    def __init__(self, cluster: Cluster, dags: Published, before: Processes, on_step: OnStep, on_wait: OnStep) -> None:
        self.cluster = cluster
        self.steps: list[Step] = []
        self.dags = dags
        self._before = before
        self._pools: list[str] = []
        self._keys: list[str] = []
        self._carries = False
        self._begun = time.monotonic()
        self._on_step = on_step
        self._on_wait = on_wait

    def require_quiet(self, name: str) -> None:
        """Do nothing where nothing else runs.

        Raises:
            CannotTellError: DAG runs go on in the lab, which would take its slots.

        """
        if others := self.cluster.api.runs("running", "queued"):
            those = ", ".join(sorted({run["dag_id"] for run in others}))
            raise CannotTellError(f"{name} needs a lab in which nothing else runs; wait for the end of {those}.")

    def did(self, what: str) -> None:
        """Write down what was done."""
        self.steps.append(Step(round(time.monotonic() - self._begun, 1), what))
        self._on_step(what)

    def workers(self) -> list[Worker]:
        """Return the workers of the lab that answer."""
        return self.cluster.broker.workers(len(self.cluster.slots()))

    def default_queue(self) -> str:
        """Return the queue of a task that names none."""
        return environment.default_queue(self.cluster.lab, {})

    def start_workers(self, count: int, slots: int, queue: str = QUEUE) -> list[str]:
        """Make `count` workers of an experiment's own, with so many slots each, listen on `queue`; return their names. 0 ends them.

        Raises:
            NotReadyError: one of them does not start.

        """
        return self.run_workers(*[WorkerLine(slots, queue)] * count)

    def run_workers(self, *lines: WorkerLine) -> list[str]:
        """Make the workers of these lines an experiment's own ones, in the place of those that there are; return their names.

        Raises:
            CannotTellError: `.env` overrides what a line sets.
            NotReadyError: one of them does not start.

        """
        self._require_free({name for line in lines for name in line.variables})
        prefix = procfile.prefix_of(self._before)
        own = {WORKER.format(number): line.command(prefix) for number, line in enumerate(lines, start=1)}
        # `Cluster.apply` would start again what is stale, which is the user's to decide.
        plan = self.cluster.supervisor.apply({**self._before, **own})
        for what, names in vars(plan).items():
            if names:
                journal.note(self.cluster.lab.state, what, names)
        self.cluster.wait_for(list(own), self._on_wait)
        named = list(zip(own, lines, strict=True))
        for line in {id(line): line for line in lines}.values():
            those = [name for name, other in named if other is line]
            self.did(f"started {', '.join(those)}, {line.told(len(those))}")
        return list(own)

    def let_pass(self, seconds: float, what: str) -> None:
        """Wait for so many seconds, in which `what` is the case."""
        until = time.monotonic() + seconds

        def rest() -> str | None:
            left = until - time.monotonic()
            return None if left <= 0 else f"{what}, for {left:.0f} s more"

        wait_until(rest, seconds + 1, what, on_wait=self._on_wait)

    def names_of(self, kind: str) -> list[str]:
        """Return the processes of one kind, as `Service` has it.

        Raises:
            CannotTellError: there is none.

        """
        found = [name for name, service in procfile.services_of(self._before).items() if service.kind == kind]
        if not found:
            raise CannotTellError(f"no process of this lab is {kind}; add its line to the Procfile.")
        return found

    def take_away(self, names: Sequence[str], seconds: float) -> float:
        """Stop processes for so many seconds, and start them again, whatever happens; return the seconds until all was ready then.

        Raises:
            NotReadyError: the lab did not recover.

        """
        those = ", ".join(names)
        expected = procfile.services_of(self.cluster.supervisor.processes)
        try:
            self.cluster.stop(names)
            self.did(f"stopped {those}")
            self.let_pass(seconds, f"{those} is away")
        finally:
            journal.note(self.cluster.lab.state, "start", names)
            self._launch(names)
            self.did(f"started {those}")
            took = self.cluster.wait_until_ready(RECOVERY, expected, self._on_wait)
            self.did(f"all was ready again {took:.1f} s later")
        return took

    def carry_links(self) -> None:
        """Let the experiment's own workers that start from now on go through links, which are clean.

        Raises:
            CannotTellError: a link is slow or cut already.
            NotReadyError: they cannot be carried.

        """
        found = self.cluster.links()
        if found.conditions:
            raise CannotTellError(f"this needs clean links; `{typed()} heal` makes them so.")
        self._carries = not found.on
        self.cluster.carry_links(self._on_wait)
        self._before = wanted.beside(self.cluster.supervisor.processes, self._before)

    @contextmanager
    def spoilt(self, server: str, condition: Condition) -> Iterator[None]:
        """Give the link to a server a condition, and make it clean when the block ends."""
        self.cluster.set_links([server], condition, self._on_wait)
        self.did(f"cut the link to {server}" if condition.cut else f"made the link to {server} {condition.text}")
        try:
            yield
        finally:
            self.cluster.set_links([server], CLEAN, self._on_wait)
            self.did(f"healed the link to {server}")

    def _launch(self, names: Sequence[str]) -> None:
        """Start processes; supervisord refuses that while one still stops, as after Ctrl-C in the midst of it."""

        def probe() -> str | None:
            self.cluster.supervisor.launch(names)
            states = self.cluster.supervisor.states()
            late = [name for name in names if states.get(name) not in STARTED]
            return f"{', '.join(late)} still stops" if late else None

        wait_until(probe, RECOVERY, f"the start of {', '.join(names)}", on_wait=self._on_wait)

    def leave_no_key(self, *keys: str) -> None:
        """Let keys that workers make in Redis be deleted when they have ended."""
        self._keys += keys

    def make_pool(self, name: str, slots: int) -> str:
        """Make a pool of Airflow's, which is deleted at the end; return its name."""
        self._pools.append(name)
        self.cluster.api.delete_pool(name)
        self.cluster.api.make_pool(name, slots)
        self.did(f"made the pool {name} with {slots} slot{'s' if slots > 1 else ''}")
        return name

    def run(self, dag_id: str, groups: Sequence[Group], during: Callable[[str], None] | None = None, timeout: float = PATIENCE) -> Timeline:
        """Run a DAG of these tasks, and return its timeline when it has ended, or was ended after `timeout` seconds.

        `during` is called with the id of the run when it has started.
        """
        cluster = self.cluster
        self.dags.put(dag_id, experiment_groups.source(dag_id, groups))
        run_id = cluster.api.trigger(dag_id, {})
        self.did(f"started {_told(groups)}")
        if during:
            during(run_id)
        try:
            wait_until(lambda: self._goes_on(dag_id, run_id), timeout, f"the end of {dag_id}", interval=runs.LOOK, on_wait=self._on_wait)
        except NotReadyError:
            self.did(f"ended the run after {timeout:g} s, which had not ended by itself")
        found = spans.timeline(recording.record(cluster, cluster.api.run(dag_id, run_id)))
        if found.state not in runs.FINAL:
            cluster.api.fail_run(dag_id, run_id)
        own = {name: slots for name, slots in found.slots.items() if name.startswith(f"{QUEUE}-")}
        # The slots of the lab's other workers would be empty lanes, where only an experiment's own ones are asked for.
        return replace(found, slots=own) if all(group.queue.startswith(QUEUE) for group in groups) else found

    def wait_for_tasks(self, dag_id: str, run_id: str, count: int, state: str = "running") -> None:
        """Wait until so many tasks of a run are in a state.

        Raises:
            CannotTellError: they are not in time.

        """

        def lacks() -> str | None:
            found = [task for task in self.cluster.api.task_instances(dag_id, run_id) if task["state"] == state]
            return None if len(found) >= count else f"{len(found)} of {count} tasks are {state}"

        try:
            wait_until(lacks, PATIENCE, dag_id, on_wait=self._on_wait)
        except NotReadyError as error:
            raise CannotTellError(f"what was to be measured did not begin: {error}") from error

    def put_right(self) -> None:
        """End the experiment's own workers and pools."""
        for name in self._pools:
            self.cluster.api.delete_pool(name)
        self._pools.clear()
        self.run_workers()
        if self._carries:
            self.cluster.drop_links(self._on_wait)
        if self._keys:
            from redis.exceptions import RedisError  # Most commands ask no Redis.

            with suppress(RedisError):  # The lab may have been stopped meanwhile.
                self.cluster.broker.redis.delete(*self._keys)

    def _require_free(self, variables: Collection[str]) -> None:
        for name in sorted(variables):
            if name in self.cluster.settings.variables:
                raise CannotTellError(
                    f"{name} in .env would count for this experiment's workers too, which need their own; remove it there."
                )

    def _goes_on(self, dag_id: str, run_id: str) -> str | None:
        state = self.cluster.api.run_state(dag_id, run_id)
        if state in runs.FINAL:
            return None
        tasks = self.cluster.api.task_instances(dag_id, run_id)
        ended = sum(task["state"] in runs.ENDED for task in tasks)
        return f"{ended} of {len(tasks)} tasks have ended"


@contextmanager
def bench(cluster: Cluster, on_step: OnStep, on_wait: OnStep) -> Iterator[Bench]:
    """Return a bench in a lab that runs in the background, one at a time, and put the lab right when the block ends.

    Raises:
        LabError: the lab does not run in the background.
        AlreadyRunningError: another one is at work there.

    """
    cluster.require_background()
    with ExitStack() as stack:
        stack.enter_context(alone(cluster.lab.state))
        # What an earlier one has left that was killed is none of the lab's.
        before = {name: line for name, line in cluster.supervisor.processes.items() if not _is_own(name, line)}
        found = Bench(cluster, Published(cluster), before, on_step, on_wait)
        # After the runs have ended: a worker that still has tasks would finish them first.
        stack.callback(found.put_right)
        stack.enter_context(found.dags)
        yield found


def _is_own(name: str, line: str) -> bool:
    return name.startswith(f"{QUEUE}-") and f"--queues {QUEUE}" in line


def _told(groups: Sequence[Group]) -> str:
    """Return what a run consists of, with tasks that are alike put together."""
    alike: dict[str, list[str]] = {}
    for group in groups:
        way = "with the triggerer" if group.deferred else f"on the queue {group.queue}"
        alike.setdefault(f"of {group.seconds:g} s {way}", []).append(
            f"{group.tasks} `{group.name}`" if group.tasks > 1 else f"`{group.name}`"
        )
    return "; ".join(f"{', '.join(those)} {how}" for how, those in alike.items())


def slots_of(workers: Sequence[Worker], queue: str) -> Mapping[str, int]:
    """Return the slots of the workers that listen on a queue, by name."""
    return {worker.name: worker.concurrency for worker in workers if queue in worker.queues}
