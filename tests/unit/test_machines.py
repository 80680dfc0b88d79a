"""What becomes of tasks on machines that have joined: by their leases, by Celery's answers, and by the tasks' own reports."""

from __future__ import annotations

from dataclasses import replace

from airflow_celery_lab.inside_airflow.custody import QUEUED, RUNNING, Answer, Custody, Questions, Sight, Task, Verdict
from airflow_celery_lab.inside_airflow.machines import LAPSED, Machine, Worker

THERE = Worker(incarnation=10, started=1000.0, queues=frozenset({"default"}))
HERE = THERE._replace(incarnation=20)
RUNS = Task(RUNNING, "m1", "default", worker="w@atlas", here=False, started=1500.0)
TAKEN = Task(QUEUED, "m2", "default")
#: Seconds within which the tasks of a machine that is lost run elsewhere, less what a scheduler takes to begin one.
SOON = 30.0 - 5.0


class History:
    """Looks as the executor makes them, three seconds apart, at a lab that a machine called atlas has joined."""

    def __init__(self) -> None:
        self.custody: Custody[str] = Custody(40)
        self.now = 0.0
        self.renewals = 0
        self.beats = 0.0
        self.asked: list[Questions] = []

    def look(
        self,
        task: Task = RUNS,
        *,
        renews: bool = True,
        answers: bool = True,
        reports: bool = True,
        workers: dict[str, Worker] | None = None,
        redis: bool = True,
    ) -> Verdict[str]:
        self.now += 3.0
        self.renewals += renews
        self.beats += 3.0 * reports
        if task.state == RUNNING:
            task = task._replace(heartbeat=2000.0 + self.beats)
        there = Machine(("key", self.renewals), {"w@atlas": THERE} if workers is None else workers)
        sight = Sight(self.now, 2000.0 + self.now, {"w": HERE}, {"a": task}, () if redis else None, machines={"atlas": there})
        questions = self.custody.questions(sight)
        self.asked.append(questions)
        if questions:
            replies = {"w": Answer((), HERE.queues), **({"w@atlas": Answer(("m2",), THERE.queues)} if answers else {})}
            sight = replace(sight, answers=replies)
        return self.custody.observe(sight)

    def until_lost(self, *, renews: bool = True, answers: bool = True, reports: bool = True) -> float:
        """Return the seconds until the task is lost, endless where it is not within two minutes."""
        begin = self.now
        while self.now - begin < 120:
            if self.look(renews=renews, answers=answers, reports=reports).lost:
                return self.now - begin
        return float("inf")


def test_a_worker_that_its_machine_speaks_for_is_believed_to_live_and_is_not_asked() -> None:
    history = History()

    assert history.until_lost(answers=False, reports=False) == float("inf")
    assert not any(history.asked)


def test_a_task_is_lost_at_once_when_its_machine_says_that_the_worker_has_ended() -> None:
    history = History()
    history.look()

    assert history.look(workers={}).lost == ["a"]


def test_a_task_is_lost_at_once_when_its_machine_speaks_of_the_workers_successor() -> None:
    history = History()
    history.look()

    assert history.look(workers={"w@atlas": THERE._replace(incarnation=11, started=1600.0)}).lost == ["a"]


def test_the_tasks_of_a_machine_that_is_cut_off_are_lost_soon() -> None:
    history = History()
    history.look()

    assert LAPSED < history.until_lost(renews=False, answers=False, reports=False) < SOON


def test_a_machine_is_not_lost_while_its_worker_answers_or_its_task_reports() -> None:
    for how in ({"answers": True, "reports": False}, {"answers": False, "reports": True}):
        history = History()
        history.look()

        assert history.until_lost(renews=False, **how) == float("inf")


def test_a_machine_is_not_lost_for_a_silence_in_which_redis_was_away() -> None:
    history = History()
    history.look()
    for _ in range(20):
        assert not history.look(renews=False, reports=False, redis=False).lost

    assert not history.look(renews=False, answers=False, reports=False).lost


def test_a_machine_that_wakes_up_in_time_has_lost_nothing() -> None:
    history = History()
    history.look()
    for _ in range(3):
        assert not history.look(renews=False, answers=False, reports=False).lost

    assert history.until_lost() == float("inf")


def test_a_message_that_a_silent_machine_may_have_is_sent_again_when_the_machine_is_lost_and_not_before() -> None:
    history = History()
    for _ in range(3):
        assert not history.look(TAKEN).missing
    begin = history.now
    while not history.look(TAKEN, renews=False, answers=False).missing:
        assert history.now - begin < SOON

    assert history.now - begin > LAPSED
