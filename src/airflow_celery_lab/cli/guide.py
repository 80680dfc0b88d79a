"""Makes the steps of the tour on a running lab: starts their runs and commands, looks at what came of it, and puts the lab back."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from airflow_celery_lab.cli import running, tables
from airflow_celery_lab.cli.app import progress
from airflow_celery_lab.cli.talk import Talk
from airflow_celery_lab.cluster import runs
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import environment
from airflow_celery_lab.errors import LabError, NotReadyError, UnknownRunError
from airflow_celery_lab.experiments.published import Published
from airflow_celery_lab.inside_airflow import experiment_groups
from airflow_celery_lab.timeline import recording
from airflow_celery_lab.tour import replies
from airflow_celery_lab.tour.step import RUN, Beside, Missing, Outcome, Seen, Step
from airflow_celery_lab.wait import wait_until

#: Seconds in which the tasks of a run are where a step wants them: the first run after a start is slower.
PATIENCE = 60.0


class Guide:
    """Leads through steps."""

    def __init__(self, cluster: Cluster, dags: Published, talk: Talk, steps: Sequence[Step | Missing], *, bold: bool) -> None:
        """Lead through `steps`; one that kills tasks of others is only made when the user is `bold` enough to press Enter for it."""
        self._cluster = cluster
        self._dags = dags
        self._talk = talk
        self._steps = steps
        self._bold = bold

    def bring_dags(self, first: int) -> None:
        """Give Airflow the DAGs of the steps from number `first` on.

        Raises:
            NotReadyError: it does not read them.

        """
        steps = [step for step in self._steps[first - 1 :] if isinstance(step, Step) and step.dag_id]
        self._dags.put_all({step.dag_id: experiment_groups.source(step.dag_id, step.groups, by="tour") for step in steps})

    def make(self, number: int, made: Callable[[bool | None], None]) -> None:
        """Make step `number`, from 1; `made` is told whether the prediction was right, None for none, as soon as that is known.

        Raises:
            typer.Exit: the user leaves.
            LabError: the lab does not work any more.

        """
        step = self._steps[number - 1]
        self._talk.heading(f"Step {number} of {len(self._steps)}: {step.title}")
        if isinstance(step, Missing):
            self._leave_out(step.why)
            made(None)
            return
        self._talk.paragraphs(step.about)
        with self._put_back_after(step):
            predicted = self._predict(step)
            if step.harms and (others := self._others()):
                sentence = f"Other DAG runs go on in this lab: {others}. What {step.harms} runs of them is killed, too."
                if not self._bold:
                    self._leave_out(sentence)
                    made(None)
                    return
                self._talk.paragraph(sentence)
            outcome = self._do(step)
            made(self._compare(step, predicted, outcome))
            self._talk.paragraphs(step.why)
            self._show_looks(step)
            if number < len(self._steps):
                self._talk.ask(f"\nEnter: on to step {number + 1} (q leaves):", replies.onward)
            else:
                self._talk.paragraphs(["The tour's DAGs are deleted when it ends, with their runs."])
                self._talk.ask("Enter ends the tour:", replies.onward)

    def _leave_out(self, why: str) -> None:
        self._talk.paragraphs([why, "This step is left out."])

    def _predict(self, step: Step) -> int | None:
        answers = list(step.question.answers.values())
        self._talk.line("")
        self._talk.paragraph(step.question.text, "bold")
        for number, answer in enumerate(answers, start=1):
            self._talk.paragraph(answer, indent="     ", first=f"  {replies.letter(number)}  ")
        prompt = f"Your prediction, a to {replies.letter(len(answers))} (Enter: none):"
        return self._talk.ask(prompt, partial(replies.prediction, answers=len(answers)))

    def _do(self, step: Step) -> Outcome:
        """Run the command, with the step's run beside it where it has one, and return what came of it."""
        self._talk.line("")
        self._talk.line(f"  $ {typed()} {shlex.join(step.command)}", "bold")
        self._talk.line("")
        self._talk.ask("Enter runs it, or type it (q leaves):", partial(replies.command, me=typed(), words=step.command))
        run_id = self._start_beside(step, step.beside) if step.beside else ""
        run_command(step.command)
        status = self._cluster.status()
        if step.beside and step.beside.ends:
            self._talk.line("")
            tables.console.print(tables.run(running.follow(self._cluster, step.dag_id, run_id, quiet=False)))
        with suppress(UnknownRunError):
            return step.judge(Seen(status, recording.timeline(self._cluster, step.dag_id, run_id or None) if step.dag_id else None))
        return step.judge(Seen(status, None))

    def _start_beside(self, step: Step, beside: Beside) -> str:
        """Start the run that goes on beside the command, and return its id when its tasks are where they should be."""
        run_id = self._cluster.api.trigger(step.dag_id, {})
        self._talk.paragraph(f"The tour has started {step.dag_id}, and waits until its tasks are {beside.state}.")
        show = progress("waiting", lambda text: print(text, file=sys.stderr, flush=True))
        with suppress(NotReadyError):  # The outcome says what there was to see.
            wait_until(lambda: self._lacks(step, beside, run_id), PATIENCE, step.dag_id, interval=runs.LOOK, on_wait=show)
        return run_id

    def _lacks(self, step: Step, beside: Beside, run_id: str) -> str | None:
        tasks = self._cluster.api.task_instances(step.dag_id, run_id)
        there = [task for task in tasks if task["state"] == beside.state and beside.worker in ("", task["hostname"])]
        wanted = len(tasks) if beside.state == "queued" else 1
        return None if tasks and len(there) >= wanted else f"{len(there)} of {len(tasks)} tasks are {beside.state}"

    def _compare(self, step: Step, predicted: int | None, outcome: Outcome) -> bool | None:
        """Say what came of it; return whether the prediction was right, None where there was none or nothing was shown."""
        self._talk.line("")
        self._talk.paragraph(f"Measured: {outcome.told}", "bold")
        answers = list(step.question.answers)
        if outcome.answer not in answers:
            self._talk.paragraph(f"That is none of the answers; something else keeps the tasks. `{typed()} status` may say what.")
            return None
        right = answers.index(outcome.answer) + 1
        told = f"{replies.letter(right)}: {step.question.answers[outcome.answer]}."
        if predicted is None:
            self._talk.paragraph(f"That is {told}")
            return None
        self._talk.paragraph(
            f"As you predicted, {told}" if predicted == right else f"You predicted {replies.letter(predicted)}. It is {told}"
        )
        return predicted == right

    def _show_looks(self, step: Step) -> None:
        newest = self._cluster.api.newest_run(step.dag_id) if step.dag_id else None
        web = environment.web_url(self._cluster.lab)
        address = f"{web}/dags/{step.dag_id}/runs/{newest['dag_run_id']}" if newest else f"{web}/dags/{step.dag_id}"
        self._talk.line("")
        self._talk.paragraph("Look at it in your browser:")
        for look in step.looks:
            self._talk.paragraph(f"{look.where}: {look.what}", indent="    ", first="  ")
            self._talk.line(f"  {look.address.replace(RUN, address)}")

    def _others(self) -> str:
        """Return the DAGs of the runs that go on, but for the tour's own."""
        own = {step.dag_id for step in self._steps if isinstance(step, Step)}
        return ", ".join(sorted({run["dag_id"] for run in self._cluster.api.runs("running", "queued")} - own))

    @contextmanager
    def _put_back_after(self, step: Step) -> Iterator[None]:
        """Put the lab back when the step is left, however it is left."""
        try:
            yield
        finally:
            try:
                self._put_back(step)
            except KeyboardInterrupt:
                with suppress(OSError):
                    print(f"\nlab: not all was put back; `{typed()} apply` makes the processes those of the Procfile", file=sys.stderr)
                raise

    def _put_back(self, step: Step) -> None:
        cluster, talk = self._cluster, self._talk
        if step.dag_id:
            with suppress(LabError):  # Airflow may not know it yet, or not answer any more.
                self._dags.end(step.dag_id)
        if step.undo.empty:
            cluster.broker.empty(step.undo.empty)
        if step.undo.counts:
            target = cluster.scaled(step.undo.counts)
            if removed := cluster.plan(target).removed:
                with suppress(OSError):  # The terminal may be gone.
                    talk.line("")
                    talk.paragraph(f"The tour puts the lab back: {', '.join(removed)} ends.")
                cluster.apply(target)
        if step.undo.ready:
            cluster.wait_for(step.undo.ready)


def run_command(words: Sequence[str]) -> int:
    """Run a command of the lab on this terminal, and return its exit status; Ctrl-C there is Ctrl-C for it too."""
    with subprocess.Popen([sys.executable, "-m", "airflow_celery_lab", *words]) as command:
        try:
            return command.wait()
        except KeyboardInterrupt:  # The terminal has told both.
            command.wait()
            raise
        except BaseException:
            command.terminate()
            command.wait()
            raise
