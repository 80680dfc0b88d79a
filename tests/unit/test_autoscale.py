from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from airflow_celery_lab.autoscale import policy
from airflow_celery_lab.autoscale.policy import PATIENCE, Load
from airflow_celery_lab.cluster import autoscaled
from airflow_celery_lab.cluster.autoscaled import Autoscaled, Claim
from airflow_celery_lab.cluster.changing import changing
from airflow_celery_lab.configuration import procfile, ranges
from airflow_celery_lab.configuration.ranges import Range
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import AlreadyRunningError, ProcfileError

WORKERS = Range("worker", 1, 6)
LINES = procfile.parse("redis: ./lab exec redis\nworker: ./lab exec airflow celery worker --queues a --concurrency 4\nworker-2: sh\n")
OWN = procfile.parse("worker: ./lab exec airflow celery worker\nautoscaler: ./lab exec autoscale worker=1..6\n")
NOTE = Autoscaled("worker", 1, 6, 3, 3, "12 tasks on 4 slots a worker", "", "", 4711)


def played(tasks: Sequence[int], start: int = 1, allowed: Range = WORKERS, slots: int = 4) -> list[int]:
    """Return how many workers there are after each look of a history, two seconds apart; one leaves at a time, and takes a look to do so."""
    loads: list[Load] = []
    counts, current = [], start
    for number, seen in enumerate(tasks):
        loads = policy.recent(loads, Load(2.0 * number, seen))
        wanted = policy.decide(loads, current, allowed, slots).wanted
        current = wanted if wanted >= current else current - 1
        counts.append(current)
    return counts


def test_as_many_workers_come_at_the_next_look_as_the_load_needs_and_no_more_than_allowed() -> None:
    assert played([0, 4, 5, 22, 400]) == [1, 1, 2, 6, 6]


def test_workers_leave_one_at_a_time_when_the_load_has_been_less_for_the_whole_time() -> None:
    looks = round(PATIENCE / 2)

    counts = played([20] + [3] * (looks + 6))

    assert counts[: looks + 1] == [5] * (looks + 1)
    assert counts[looks + 1 :] == [4, 3, 2, 1, 1, 1]


def test_as_many_stay_as_the_greatest_load_of_the_last_time_needs() -> None:
    looks = round(PATIENCE / 2)

    assert played([24] + [0] * looks + [9] + [0] * (looks - 1))[-1] == 3


def test_a_load_that_comes_and_goes_within_the_time_changes_nothing() -> None:
    counts = played([20, 20, 0, 0, 0, 0, 0, 1] * 40)

    assert set(counts) == {5}


def test_a_load_on_the_edge_of_one_more_worker_does_not_flap() -> None:
    assert set(played([4, 5] * 100)[1:]) == {2}


def test_no_worker_stays_where_none_must_and_the_first_task_brings_one_at_once() -> None:
    counts = played([0] * 20 + [1], start=2, allowed=Range("worker", 0, 2))

    assert counts[-3:] == [0, 0, 1]


def test_a_count_outside_of_the_range_does_not_wait() -> None:
    assert policy.decide([Load(0.0, 0)], 1, Range("worker", 2, 6), 4).wanted == 2
    assert policy.decide([Load(0.0, 0)], 9, WORKERS, 4).wanted == 6


def test_what_was_not_looked_at_does_not_count_as_quiet() -> None:
    """After an outage the history is empty, and begins anew."""
    assert policy.decide([Load(1000.0, 0)], 5, WORKERS, 4).wanted == 5
    assert policy.decide([Load(1000.0, 0), Load(1000.0 + PATIENCE, 0)], 5, WORKERS, 4).wanted == 1


def test_a_long_history_is_forgotten_but_for_what_the_next_look_needs() -> None:
    loads: list[Load] = []
    for number in range(1000):
        loads = policy.recent(loads, Load(2.0 * number, 1))

    assert len(loads) <= PATIENCE / 2 + 2
    assert loads[-1].when - loads[0].when >= PATIENCE


@pytest.mark.parametrize(
    ("tasks", "current", "slots", "why"),
    [
        (12, 1, 4, "12 tasks on 4 slots a worker"),
        (1, 1, 1, "1 task on 1 slot a worker"),
        (0, 1, 4, "no tasks on 4 slots a worker, and 1 at least"),
        (100, 6, 4, "100 tasks on 4 slots a worker, and 6 at most"),
        (5, 6, 4, "5 tasks on 4 slots a worker, for 0 of 30 s"),
        (0, 9, 4, "no tasks on 4 slots a worker, and 6 at most"),
    ],
)
def test_a_decision_says_why(tasks: int, current: int, slots: int, why: str) -> None:
    assert policy.decide([Load(0.0, tasks)], current, WORKERS, slots).why == why


def test_a_decision_says_which_load_still_counts() -> None:
    loads = [Load(0.0, 20), Load(20.0, 9), Load(40.0, 2)]

    assert policy.decide(loads, 5, WORKERS, 4) == (3, "2 tasks on 4 slots a worker, and up to 9 in the last 30 s")


def test_ranges_are_read_as_they_are_written() -> None:
    assert ranges.parse(["worker=1..6", "other=0..2"]) == (Range("worker", 1, 6), Range("other", 0, 2))
    assert [ranges.text(one) for one in ranges.parse(["worker=1..6"])] == ["worker=1..6"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("worker=3..1", r"ends before it begins; did you mean worker=1\.\.3\?"),
        ("worker=1..1000", r"is more than 99 workers; write a range that ends at 99 or below"),
        ("worker=0..0", r"never runs a worker; did you mean worker=0\.\.1\?"),
        ("worker=1-6", r"is not NAME=LEAST\.\.MOST; did you mean worker=1\.\.6\?"),
        ("worker=1...6", r"did you mean worker=1\.\.6\?"),
        ("worker=6", r"did you mean worker=6\.\.6\?"),
        ("worker=a..b", r"write for example worker-default=1\.\.6\."),
        ("worker=-1..2", r"write for example worker-default=1\.\.6\."),
        ("worker", r"write for example worker-default=1\.\.6\."),
        ("=1..2", r"write for example worker-default=1\.\.6\."),
        ("", r"write for example worker-default=1\.\.6\."),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_with_what_was_meant(text: str, hint: str) -> None:
    with pytest.raises(ProcfileError, match=hint):
        ranges.parse([text])


def test_no_range_at_all_and_two_for_one_line_are_refused() -> None:
    with pytest.raises(ProcfileError, match=r"needs a worker's line of the Procfile and its range, NAME=LEAST\.\.MOST"):
        ranges.parse([])
    with pytest.raises(ProcfileError, match="names worker twice"):
        ranges.parse(["worker=1..2", "worker=1..3"])


def test_a_line_that_is_no_worker_or_that_there_is_not_is_refused() -> None:
    for name, sentence in (
        ("redis", "^redis is no worker, and nothing else can be autoscaled; the workers are worker"),
        ("wroker", r"^wroker is no line of the Procfile; did you mean 'worker'\?$"),
    ):
        with pytest.raises(ProcfileError, match=sentence):
            procfile.require_workers([Range(name, 1, 2)], LINES)


WORKER = "worker: ./lab exec airflow celery worker\n"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("a: ./lab exec autoscale\n", r"^Procfile line 2 \(a\): `autoscale` needs a worker's line"),
        ("a: ./lab exec autoscale worker=2..1\n", r"^Procfile line 2 \(a\): 'worker=2..1' ends before it begins"),
        (
            "a: ./lab exec autoscaler worker=1..2\n",
            r"^Procfile line 2 \(a\): there is no program 'autoscaler' to run; did you mean 'autoscale'\?",
        ),
        ("a: ./lab autoscale worker=1..2\n", r"^Procfile line 2 \(a\): the launcher is missing; write `\S+ exec autoscale worker=1..2`"),
        ("a: ./lab exec autoscale wrker=1..2\n", r"^Procfile \(a\): wrker is no line of the Procfile; did you mean 'worker'\?$"),
        (
            "a: ./lab exec autoscale worker=1..2\nb: ./lab exec autoscale worker=1..3\n",
            "^a and b both autoscale worker; remove it from one",
        ),
    ],
)
def test_an_autoscalers_line_that_makes_no_sense_is_refused_before_anything_starts(lines: str, sentence: str) -> None:
    with pytest.raises(ProcfileError, match=sentence):
        procfile.parse(WORKER + lines)


@pytest.mark.parametrize("words", ["autoscale", "lab autoscale", "./lab autoscale", "airflow-celery-lab autoscale"])
def test_an_autoscalers_line_may_name_the_launcher_again(words: str) -> None:
    (_, line) = procfile.parse(f"{WORKER}a: ./lab exec {words} worker=0..3\n")

    assert (line.service.kind, line.service.ranges) == ("autoscaler", (Range("worker", 0, 3),))


def test_an_autoscaler_runs_once() -> None:
    assert "autoscaler" not in procfile.instances(OWN, {"autoscaler": 0})
    with pytest.raises(ProcfileError, match=r"^autoscaler cannot run 2 times"):
        procfile.instances(OWN, {"autoscaler": 2})


def test_a_line_with_an_autoscaler_keeps_its_count_when_the_procfile_is_applied() -> None:
    running = procfile.instances(LINES[:2], {"worker": 3})

    assert autoscaled.kept([NOTE], running, LINES[:2]) == {"worker": 3}
    assert autoscaled.kept([], running, LINES[:2]) == {}
    assert autoscaled.kept([NOTE._replace(line="gone")], running, LINES[:2]) == {}


def test_an_autoscaler_that_the_procfile_names_no_more_has_no_say_in_it() -> None:
    running = procfile.instances(OWN, {"worker": 3})
    note = NOTE._replace(process="autoscaler")

    assert autoscaled.kept([note], running, OWN) == {"worker": 3}
    assert autoscaled.kept([note], running, OWN[:1]) == {}
    other = procfile.parse(
        "worker: ./lab exec airflow celery worker\nb: ./lab exec airflow celery worker\nautoscaler: ./lab exec autoscale b=1..2\n"
    )
    assert autoscaled.kept([note], running, other) == {}


def test_servers_are_started_for_as_many_workers_as_there_may_be() -> None:
    running = procfile.instances(LINES[:2], {"worker": 2})

    assert list(autoscaled.widest(running, LINES[:2], [NOTE], [])) == ["redis", *(["worker"]), *(f"worker-{n}" for n in range(2, 7))]
    assert len(autoscaled.widest(running, LINES[:2], [], [(Range("worker", 0, 3),)])) == 4
    assert autoscaled.widest(running, LINES[:2], [], [(Range("worker", 0, 1),)]) == running


def test_a_count_of_a_line_with_an_autoscaler_is_refused_with_what_to_do() -> None:
    for process, advice in (
        ("", r"end it first, with Ctrl-C where it runs, or with `kill 4711`"),
        ("scaler", r"or end it with `\S+ stop scaler` first"),
    ):
        with pytest.raises(ProcfileError, match=rf"^worker has an autoscaler, which runs 1 to 6 of it; .*{advice}\.$"):
            autoscaled.refuse({"worker": 2}, [NOTE._replace(process=process)])
    with pytest.raises(
        ProcfileError, match=r"^worker has an autoscaler in the Procfile, autoscaler, which runs 1 to 6 of it; change the range"
    ):
        autoscaled.refuse({"worker": 2}, [], OWN)
    autoscaled.refuse({"redis": 1}, [NOTE], OWN)


def test_a_line_has_one_autoscaler_at_a_time_which_is_known_while_it_lives(tmp_path: Path) -> None:
    state = State(tmp_path)
    note = NOTE._replace(process="autoscaler", pid=os.getpid())
    claim = Claim(state, note)
    claim.update(actual=2, draining="worker-2")

    assert autoscaled.read(state) == [note._replace(actual=2, draining="worker-2")]
    with pytest.raises(
        AlreadyRunningError, match=rf"^worker has an autoscaler already \(pid {os.getpid()}\); .* `\S+ stop autoscaler` first\.$"
    ):
        Claim(state, note)
    claim.release()
    assert autoscaled.read(state) == []
    Claim(state, note).release()


def test_what_a_killed_autoscaler_has_left_undone_is_known_to_the_next_one(tmp_path: Path) -> None:
    state = State(tmp_path)
    killed = Claim(state, NOTE)
    killed.update(draining="worker-3")
    killed._lock.close()

    assert autoscaled.read(state) == []
    following = Claim(state, NOTE)
    assert following.left == "worker-3"
    following.release()


def test_a_damaged_note_is_left_out(tmp_path: Path) -> None:
    state = State(tmp_path)
    claim = Claim(state, NOTE)
    state.autoscaled("worker").write_text('{"line": ')

    assert autoscaled.read(state) == []
    claim._lock.close()
    following = Claim(state, NOTE)
    assert following.left == ""
    following.release()


def test_what_runs_is_changed_by_one_at_a_time(tmp_path: Path) -> None:
    waited: list[str] = []
    with changing(State(tmp_path), 0) as first, changing(State(tmp_path), 0.05, waited.append) as second:
        assert (first, second) == (True, False)
    assert waited
    with changing(State(tmp_path), 0) as held:
        assert held


def test_a_disk_that_takes_nothing_does_not_keep_a_lab_from_being_stopped(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")

    with changing(State(tmp_path / "state"), 0) as held:
        assert held
