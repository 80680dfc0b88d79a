"""Histories as they were seen on a running lab: what went in, look by look, and what must come out."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_celery_lab.inside_airflow.custody import (
    AWAY,
    INTERVAL,
    OVER,
    PATIENT,
    QUEUED,
    RUNNING,
    SOON,
    Answer,
    Custody,
    Questions,
    Sight,
    Task,
    Verdict,
    held,
)
from airflow_celery_lab.inside_airflow.machines import Worker

NOTHING: Verdict[str] = Verdict([], [], [], {})
WORKER = Worker(incarnation=10, started=1000.0, queues=frozenset({"default"}))
SUCCESSOR = WORKER._replace(incarnation=20, started=2000.0)
RUNS = Task(RUNNING, "m1", "default", worker="w", incarnation=10, started=1500.0)
WAITS = Task(QUEUED, "m1", "default")


class History:
    """Looks, one after the other, as the executor makes them: the workers are asked only if need be."""

    def __init__(self, listener_timeout: float = 40) -> None:
        self.custody: Custody[str] = Custody(listener_timeout)
        self.now = 0.0
        self.asked: list[Questions] = []

    def look(
        self,
        tasks: Mapping[str, Task],
        workers: Mapping[str, Worker] | None = None,
        waiting: tuple[str, ...] | None = (),
        *,
        answers: Mapping[str, Answer] | None = None,
        after: float = 3.0,
        wall: float = 3000.0,
    ) -> Verdict[str]:
        self.now += after
        sight = Sight(self.now, wall, {"w": WORKER} if workers is None else workers, tasks, waiting)
        questions = self.custody.questions(sight)
        self.asked.append(questions)
        if questions:
            default = {name: Answer((), worker.queues) for name, worker in sight.workers.items()}
            sight = Sight(sight.now, wall, sight.workers, tasks, waiting, default if answers is None else answers)
        return self.custody.observe(sight)


# A worker's end


def test_a_task_is_lost_when_its_worker_is_gone() -> None:
    history = History()

    assert history.look({"a": RUNS}) == NOTHING
    assert history.look({"a": RUNS}, workers={}).lost == ["a"]


def test_a_task_is_lost_when_its_workers_successor_was_there_before_the_next_look() -> None:
    history = History()
    history.look({"a": RUNS})

    assert history.look({"a": RUNS._replace(incarnation=None)}, {"w": SUCCESSOR}).lost == ["a"]


def test_a_scheduler_that_was_away_meanwhile_knows_a_predecessors_task_by_the_clock() -> None:
    assert History().look({"a": RUNS._replace(incarnation=None)}, {"w": SUCCESSOR}).lost == ["a"]


def test_a_clock_that_was_set_back_makes_no_task_a_predecessors() -> None:
    assert History().look({"a": RUNS._replace(incarnation=20)}, {"w": SUCCESSOR}) == NOTHING


def test_a_task_whose_process_has_ended_a_moment_ago_is_not_lost() -> None:
    history = History()
    history.look({"a": RUNS})

    assert [history.look({"a": RUNS._replace(incarnation=None)}) for _ in range(5)] == [NOTHING] * 5


def test_a_worker_that_has_ended_is_known_while_redis_is_away() -> None:
    assert History().look({"a": RUNS}, workers={}, waiting=None).lost == ["a"]


def test_a_worker_that_lives_without_a_record_has_lost_nothing() -> None:
    history = History()
    history.look({"a": RUNS})

    assert history.look({"a": RUNS}, {"w": Worker(None, 0.0, frozenset())}) == NOTHING


def test_only_the_tasks_of_the_lost_worker_are() -> None:
    history = History()
    other = Worker(11, 1000.0, frozenset({"default"}))
    tasks = {"a": RUNS, "b": RUNS._replace(message="m2", worker="v", incarnation=11)}
    history.look(tasks, {"w": WORKER, "v": other})

    assert history.look(tasks, {"v": other}).lost == ["a"]


def test_a_task_that_was_deferred_may_go_on_with_another_worker() -> None:
    history = History()
    other = Worker(11, 1000.0, frozenset({"default"}))
    workers = {"w": WORKER, "v": other}
    history.look({"a": RUNS}, workers)

    assert history.look({"a": RUNS._replace(message="m2", worker="v", incarnation=11)}, workers) == NOTHING


def test_a_task_that_waits_long_without_a_word_from_its_worker_is_not_lost() -> None:
    history = History()
    silent = RUNS._replace(heartbeat=1500.0)

    assert {tuple(history.look({"a": silent}, wall=1500.0 + 3 * look).lost) for look in range(200)} == {()}


# A worker of another machine


def test_a_worker_elsewhere_is_gone_when_neither_it_nor_its_task_has_said_a_word() -> None:
    history = History()
    task = RUNS._replace(worker="far", here=False, heartbeat=1500.0)
    history.look({"a": task}, answers={"far": Answer()})
    verdicts = [history.look({"a": task}, answers={}).lost for _ in range(int(AWAY / 3) + 1)]

    assert verdicts == [[]] * int(AWAY / 3) + [["a"]]


def test_a_worker_elsewhere_whose_task_reports_is_not_gone() -> None:
    history = History()

    verdicts = [
        history.look({"a": RUNS._replace(worker="far", here=False, heartbeat=1500.0 + look)}, answers={}).lost for look in range(60)
    ]

    assert verdicts == [[]] * 60


def test_what_is_nowhere_may_be_with_a_worker_elsewhere_that_does_not_answer() -> None:
    history = History()
    history.look({"a": WAITS}, answers={"w": Answer(), "far": Answer(["m1"])})

    assert [history.look({"a": WAITS}, answers={"w": Answer()}).missing for _ in range(5)] == [[]] * 5


# Messages


def test_a_message_that_is_nowhere_twice_is_sent_again() -> None:
    history = History()

    assert history.look({"a": WAITS}) == NOTHING
    assert history.look({"a": WAITS}, after=1.0).missing == ["a"]


def test_a_message_on_its_way_from_its_queue_to_a_worker_is_not_lost() -> None:
    history = History()
    history.look({"a": WAITS}, waiting=("m1",))

    assert history.look({"a": WAITS}) == NOTHING
    assert history.look({"a": WAITS}, answers={"w": Answer(["m1"])}) == NOTHING
    assert history.look({"a": WAITS}) == NOTHING


def test_what_waits_behind_busy_workers_is_left_alone() -> None:
    history = History()

    verdicts = [history.look({"a": WAITS}, waiting=("m1",)) for _ in range(500)]

    assert verdicts == [NOTHING] * 500


def test_what_a_paused_worker_may_have_is_not_sent_again() -> None:
    history = History()
    workers = {"w": WORKER, "v": Worker(11, 1000.0, frozenset({"default"}))}

    assert [history.look({"a": WAITS}, workers, answers={"v": Answer()}) for _ in range(20)] == [NOTHING] * 20


def test_a_worker_that_is_starting_has_taken_nothing() -> None:
    history = History()
    workers = {"w": Worker(20, 2990.0, frozenset({"default"})), "v": Worker(11, 1000.0, frozenset({"default"}))}
    history.look({"a": WAITS}, workers, answers={"v": Answer()})

    assert history.look({"a": WAITS}, workers, answers={"v": Answer()}).missing == ["a"]


def test_a_worker_that_is_starting_behind_a_slow_link_may_have_what_it_cannot_say_yet() -> None:
    history = History()
    workers = {"w": Worker(20, 2990.0, frozenset({"default"}), far=True), "v": Worker(11, 1000.0, frozenset({"default"}))}
    history.look({"a": WAITS}, workers, answers={"v": Answer()})

    assert history.look({"a": WAITS}, workers, answers={"v": Answer()}).missing == []


def test_a_worker_does_not_have_what_it_threw_away_when_redis_was_away() -> None:
    found = {"m1": ["reserved", {"name": "execute_workload"}], "m2": ["active", {}], "m3": ["ready", {}]}

    assert held(found) == ("m1", "m2")


def test_an_answer_is_expected_of_who_has_answered_before_or_is_not_young_any_more() -> None:
    history = History()
    workers = {
        "old": Worker(10, 1000.0, frozenset({"default"})),
        "starting": Worker(20, 2990.0, frozenset({"default"})),
        "started": Worker(30, 2980.0, frozenset({"default"})),
    }
    history.look({"a": WAITS}, workers, answers={"old": Answer(), "started": Answer()})
    history.look({"a": WAITS}, workers)

    assert [questions.expected for questions in history.asked] == [{"old"}, {"old", "started"}]
    assert [questions.newcomers for questions in history.asked] == [{"starting", "started"}, {"starting"}]


def test_an_answer_of_another_machines_worker_is_expected_until_it_is_gone() -> None:
    history = History()
    history.look({"a": WAITS}, {}, answers={"theirs": Answer()})
    for _ in range(int(AWAY / 3) + 2):
        history.look({"a": WAITS}, {}, answers={})

    assert [questions.expected for questions in (history.asked[1], history.asked[-1])] == [{"theirs"}, set()]


def test_a_young_worker_that_has_answered_once_may_have_it() -> None:
    history = History()
    workers = {"w": Worker(20, 2990.0, frozenset({"default"})), "v": Worker(11, 1000.0, frozenset({"default"}))}
    history.look({"a": WAITS}, workers, answers={"w": Answer(["m1"]), "v": Answer()})

    assert [history.look({"a": WAITS}, workers, answers={"v": Answer()}).missing for _ in range(5)] == [[]] * 5


def test_looks_are_frequent_while_something_is_suspicious_or_redis_is_away() -> None:
    history = History()

    assert history.look({"a": WAITS}, waiting=("m1",)).next_look == INTERVAL
    assert history.look({"a": WAITS}).next_look == SOON
    assert history.look({"a": WAITS}, waiting=None).next_look == SOON


def test_looks_become_rare_while_a_worker_does_not_answer_and_no_rarer_than_patient() -> None:
    history = History()
    history.look({"a": WAITS})
    looks = [history.look({"a": WAITS}, answers={}).next_look for _ in range(7)]

    assert looks == [SOON, 2 * SOON, 3 * SOON, 4 * SOON, PATIENT, PATIENT, PATIENT]
    assert history.look({"a": WAITS}).next_look == SOON
    assert history.look({"a": WAITS}, answers={}).next_look == SOON


def test_a_paused_worker_of_another_queue_has_nothing_to_do_with_it() -> None:
    history = History()
    workers = {"w": Worker(10, 1000.0, frozenset({"high_cpu"})), "v": Worker(11, 1000.0, frozenset({"default"}))}
    history.look({"a": WAITS}, workers, answers={"v": Answer()})

    assert history.look({"a": WAITS}, workers, answers={"v": Answer()}).missing == ["a"]


def test_nothing_is_judged_while_redis_is_away() -> None:
    history = History()
    history.look({"a": WAITS})

    assert history.look({"a": WAITS}, waiting=None) == NOTHING
    assert history.look({"a": WAITS}) == NOTHING
    assert history.look({"a": WAITS}).missing == ["a"]


def test_what_was_sent_again_is_another_message() -> None:
    history = History()
    history.look({"a": WAITS})
    history.look({"a": WAITS})

    assert history.look({"a": WAITS._replace(message="m2")}) == NOTHING


def test_a_task_that_is_over_and_whose_result_never_came_is_forgotten() -> None:
    history = History()
    over = Task(OVER, "m1", "default")

    assert history.look({"a": over}, answers={"w": Answer(["m1"])}) == NOTHING
    assert history.look({"a": over}) == NOTHING
    assert history.look({"a": over}).missing == ["a"]


# Queues without a listener


def test_a_task_is_given_up_when_nobody_has_listened_to_its_queue_for_too_long() -> None:
    history = History(listener_timeout=9)
    waits = {"a": WAITS._replace(queue="nobody")}

    assert [history.look(waits, waiting=("m1",)).unheard for _ in range(4)] == [[], [], [], ["a"]]


def test_a_queue_that_its_last_listener_left_has_none_whatever_the_procfile_says() -> None:
    history = History(listener_timeout=9)
    left = {"w": Answer((), ())}

    verdicts = [history.look({"a": WAITS}, waiting=("m1",), answers=left).unheard for _ in range(4)]

    assert verdicts[-1] == ["a"]


def test_a_queue_that_was_added_by_hand_has_a_listener() -> None:
    history = History(listener_timeout=9)
    waits = {"a": WAITS._replace(queue="added")}

    assert {tuple(history.look(waits, waiting=("m1",), answers={"w": Answer((), ["added"])}).unheard) for _ in range(20)} == {()}


def test_a_paused_worker_listens_still() -> None:
    history = History(listener_timeout=9)

    assert {tuple(history.look({"a": WAITS}, waiting=("m1",), answers={}).unheard) for _ in range(20)} == {()}


def test_a_worker_that_finishes_its_tasks_listens_until_its_successor_does() -> None:
    history = History(listener_timeout=9)
    leaving = {"w": WORKER._replace(leaves=True)}

    verdicts = [history.look({"a": WAITS}, leaving, ("m1",), answers={"w": Answer((), ())}).unheard for _ in range(20)]

    assert verdicts == [[]] * 20


def test_a_listener_that_was_there_for_a_moment_begins_the_time_anew() -> None:
    history = History(listener_timeout=20)
    for _ in range(5):
        history.look({"a": WAITS}, {}, ("m1",))
    history.look({"a": WAITS}, {"w": WORKER}, ("m1",))

    assert [history.look({"a": WAITS}, {}, ("m1",)).unheard for _ in range(6)] == [[]] * 6


def test_tasks_wait_for_a_listener_without_an_end_if_that_is_wanted() -> None:
    history = History(listener_timeout=0)

    assert {tuple(history.look({"a": WAITS}, {}, ("m1",)).unheard) for _ in range(100)} == {()}


def test_workers_are_asked_for_listeners_now_and_then_while_tasks_wait() -> None:
    history = History()
    for _ in range(20):
        history.look({"a": WAITS}, waiting=("m1",))

    assert sum(questions.listeners for questions in history.asked) == 4
    assert not any(questions.messages for questions in history.asked)


def test_workers_are_asked_nothing_about_tasks_that_run() -> None:
    history = History()
    for _ in range(20):
        history.look({"a": RUNS})

    assert not any(history.asked)


# Silence


def test_silence_counts_only_while_somebody_listens() -> None:
    history = History()
    reported = RUNS._replace(heartbeat=1500.0)
    history.look({"a": reported}, wall=1502.0)
    history.look({"a": reported}, wall=1505.0)

    # The machine was asleep for ten minutes, in which the clock of `now` stood still.
    assert history.look({"a": reported}, wall=2108.0).silence == {"a": 6.0}


def test_a_pause_of_the_scheduler_counts_for_ten_seconds_at_most() -> None:
    history = History()
    reported = RUNS._replace(heartbeat=1500.0)
    history.look({"a": reported}, wall=1500.0)

    assert history.look({"a": reported}, after=120.0, wall=1620.0).silence == {"a": 10.0}


def test_a_silence_that_was_watched_is_airflows_to_judge() -> None:
    history = History()
    reported = RUNS._replace(heartbeat=1500.0)

    assert {len(history.look({"a": reported}, wall=1500.0 + 3 * look).silence) for look in range(110)} == {0}
