from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from airflow_celery_lab.cli import main
from airflow_celery_lab.cli import tour as command_of_the_tour
from airflow_celery_lab.cli.app import app
from airflow_celery_lab.cluster.broker import Queue, Worker
from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.timeline.spans import Kind, Mark, Span, Timeline
from airflow_celery_lab.tour import outcomes, place, progress, replies, steps
from airflow_celery_lab.tour.place import Addresses, Place
from airflow_celery_lab.tour.progress import Progress
from airflow_celery_lab.tour.step import Missing, Outcome, Seen, Step

AT = Addresses("./lab", "http://127.0.0.1:8080", "http://127.0.0.1:5555", "docs")
DEFAULT = (Worker("worker-default", ["default"], 4, 0), Worker("worker-high-cpu", ["high_cpu"], 2, 0))
OTHERS = ["postgres", "redis", "forkserver", "webserver", "scheduler", "dag-processor", "triggerer", "flower"]


def find(*workers: Worker, lines: Sequence[str] | None = None, at: Addresses = AT, **given: Any) -> Place:
    names = [worker.name for worker in workers]
    found = place.find(
        at,
        workers,
        "default",
        OTHERS + (names if lines is None else list(lines)),
        OTHERS + names,
        **{"triggerer": True, "patience": 40.0, **given},
    )
    assert found is not None
    return found


def span(name: str, start: float, end: float | None, worker: str = "worker-default", number: int = 1, kind: Kind = "running") -> Span:
    return Span(kind, name, name.partition("[")[0], -1, number, "default", worker, 1, start, end, "success")


def seen(
    *spans: Span, marks: Sequence[Mark] = (), state: str = "success", queues: Sequence[Queue] = (), workers: Sequence[Worker] = DEFAULT
) -> Seen:
    run = Timeline("tour", "run", state, 0.0, max((each.end or 0.0 for each in spans), default=20.0), spans, marks)
    return Seen(Status(ready=True, processes=[], workers=list(workers), queues=list(queues), warnings=[]), run)


def step(of: Place, number: int) -> Step:
    found = steps.steps(of)[number - 1]
    assert isinstance(found, Step)
    return found


def words(of: Step) -> str:
    """Return all that a step says."""
    looks = [f"{look.where} {look.address} {look.what}" for look in of.looks]
    return "\n".join([*of.about, of.question.text, *of.question.answers.values(), *of.command, *of.why, *looks])


def answer(of: Step, what: Seen) -> str:
    """Return the answer that an outcome shows, as a user reads it."""
    outcome = of.judge(what)
    assert outcome.answer is not None, outcome
    return of.question.answers[outcome.answer]


def test_the_steps_of_the_default_lab_use_its_workers_and_queues() -> None:
    found = find(*DEFAULT)

    assert (found.queue, found.worker, found.line, found.instances, found.heavy) == (
        "default",
        "worker-default",
        "worker-default",
        1,
        "high_cpu",
    )
    assert [step(found, number).command for number in range(1, 9)] == [
        ["status"],
        ["run", "tour_parallel"],
        ["run", "tour_routing"],
        ["status"],
        ["scale", "worker-default=2"],
        ["kill", "worker-default"],
        ["run", "tour_deferred"],
        ["run", "tour_timeline", "--timeline"],
    ]
    assert {group.queue for group in step(found, 3).groups} == {"default", "high_cpu"}


def test_the_steps_of_a_lab_of_ones_own_name_nothing_that_it_has_not() -> None:
    found = find(
        Worker("gpu-box", ["gpu", "video"], 1, 0),
        Worker("small", ["etl"], 3, 0),
        Worker("small-2", ["etl"], 3, 0),
        lines=["gpu-box", "small"],
    )

    assert (found.queue, found.worker, found.instances, found.heavy, found.slots) == ("etl", "small", 2, "gpu", 6)
    assert step(found, 5).command == ["scale", "small=3"]
    assert step(found, 5).undo.counts == {"small": 2}
    for number in range(1, 9):
        assert not [word for word in ("worker-default", "high_cpu", "default") if word in words(step(found, number))]
        assert {group.queue for group in step(found, number).groups} <= {"etl", "gpu", outcomes.UNHEARD}


def test_a_step_that_a_lab_cannot_show_says_what_it_would_need() -> None:
    alone = steps.steps(find(Worker("one", ["default"], 1, 0), lines=["one", "one-2"], triggerer=False))

    assert [number for number, made in enumerate(alone, start=1) if isinstance(made, Missing)] == [3, 5, 7]
    assert all(
        "`./lab apply`" in made.why and f"--from {number}" in made.why for number, made in enumerate(alone, 1) if isinstance(made, Missing)
    )
    assert place.find(AT, [], "default", [], [], triggerer=True, patience=40.0) is None


def test_a_lab_without_flower_is_shown_no_address_of_flower() -> None:
    found = find(*DEFAULT, at=replace(AT, flower=""))

    assert not [number for number in range(1, 9) if "Flower http" in words(step(found, number))]


def test_the_worker_that_is_killed_runs_a_task_wherever_the_others_are() -> None:
    many = find(Worker("big", ["default"], 8, 0), Worker("other", ["default"], 16, 0))

    [group] = step(many, 6).groups
    assert step(many, 6).harms == "big"
    assert group.tasks > 16


def test_each_command_of_a_step_is_one_of_the_labs() -> None:
    assert main.GROUPS  # Importing it has registered them.
    known = {command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands}

    assert {step(find(*DEFAULT), number).command[0] for number in range(1, 9)} <= known
    assert len(steps.TITLES) == len(steps.steps(find(*DEFAULT))) == command_of_the_tour.STEPS


def test_the_slots_are_counted_and_not_the_workers() -> None:
    assert answer(step(find(*DEFAULT), 1), seen()) == "6, one for each slot"
    assert step(find(*DEFAULT), 1).judge(seen(workers=())) == Outcome("The workers have 0 slots in all ().", None)


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        ((0.0, 0.1, 0.2, 0.3), "all at the same time"),
        ((0.0, 0.1, 3.1, 3.2), "two at a time"),
        ((0.0, 3.0, 6.0, 9.0), "one after another"),
    ],
)
def test_tasks_at_the_same_time_are_counted_at_their_peak(starts: Sequence[float], told: str) -> None:
    ran = [span(name, start, start + 3.0) for name, start in zip("abcd", starts, strict=True)]

    assert answer(step(find(*DEFAULT), 2), seen(*ran)) == told


def test_a_run_without_tasks_shows_no_answer() -> None:
    assert [step(find(*DEFAULT), number).judge(seen(state="failed")).answer for number in (2, 3, 6, 7, 8)] == [None] * 5


def test_routing_is_told_from_who_ran_the_heavy_tasks() -> None:
    routing = step(find(*DEFAULT), 3)
    light = span("light[0]", 0.0, 1.0)

    assert answer(routing, seen(light, span("heavy[0]", 0.0, 1.0, "worker-high-cpu"))) == "worker-high-cpu, which listens to high_cpu"
    assert answer(routing, seen(light, span("heavy[0]", 0.0, 1.0))) == "worker-default, which has more slots"
    mixed = seen(light, span("heavy[0]", 0.0, 1.0), span("heavy[1]", 0.0, 1.0, "worker-high-cpu"))
    assert answer(routing, mixed) == "the worker that is free first"


def test_a_queue_that_nobody_hears_is_told_from_what_waits_there() -> None:
    unheard = step(find(*DEFAULT), 4)

    assert answer(unheard, seen(queues=[Queue(outcomes.UNHEARD, 2, [])], state="running")) == "they wait in the queue"
    assert answer(unheard, seen(state="failed")) == "they fail at once"
    assert answer(unheard, seen(span("work[0]", 0.0, 1.0))) == "a worker that has nothing to do runs them"
    assert unheard.judge(seen(state="running")).answer is None


def test_a_new_worker_that_found_nothing_left_shows_no_answer() -> None:
    scaling = step(find(*DEFAULT), 5)
    added = [Mark(5.0, "added worker-default-2")]

    assert (
        answer(scaling, seen(span("work[0]", 0.0, 3.0), span("work[1]", 6.0, 9.0, "worker-default-2"), marks=added))
        == "some of those that still wait in the queue"
    )
    assert scaling.judge(seen(span("work[0]", 0.0, 3.0), marks=added)).answer is None
    assert answer(scaling, seen(span("work[0]", 0.0, 3.0), span("work[1]", 6.0, 9.0), marks=added)).startswith("none")
    moved = seen(span("work[0]", 0.0, 3.0), span("work[0]", 6.0, 9.0, "worker-default-2", 2), marks=added)
    assert answer(scaling, moved) == "some of those that worker-default is running"


def test_the_task_of_a_killed_worker_is_followed_to_its_second_try() -> None:
    loss = step(find(*DEFAULT), 6)
    kill = [Mark(5.0, "kill worker-default", fault=True)]
    first, second = span("work[0]", 1.0, 5.5), span("work[0]", 12.0, 20.0, number=2)

    assert answer(loss, seen(first, second, marks=kill)) == "it starts again from the beginning, as a second try"
    assert loss.judge(seen(first, second, marks=kill)).told.startswith(
        "The task lost its worker. It ran again 7.0 s after the kill, on worker-default"
    )
    assert answer(loss, seen(first, marks=kill, state="failed")) == "it fails, and the run with it"
    assert loss.judge(seen(span("work[0]", 6.0, 9.0), marks=kill)).answer is None
    assert loss.judge(seen(first, second)).answer is None


def test_deferred_tasks_are_counted_where_they_wait() -> None:
    deferred = step(find(*DEFAULT), 7)
    waits = [span(f"wait[{number}]", 1.0 + number / 10, 7.0, kind="deferred") for number in range(8)]

    assert answer(deferred, seen(*waits)) == "more than there are slots, up to all 8"
    assert answer(deferred, seen(*waits[:4])) == "4, one in each slot"
    assert deferred.judge(seen(*waits)).told == "All of the 8 tasks waited at one moment, beside 4 slots."


def test_a_timeline_shows_waits_only_where_tasks_had_to_wait() -> None:
    drawn = step(find(*DEFAULT), 8)
    waiting = span("work[1]", 0.0, 1.2, kind="waiting")

    assert answer(drawn, seen(span("work[0]", 0.1, 1.1), waiting, span("work[1]", 1.2, 2.2))).startswith("by a bar of waiting")
    assert drawn.judge(seen(span("work[0]", 0.1, 1.1))).answer is None


@pytest.mark.parametrize(("line", "number"), [("a\n", 1), (" C. \n", 3), ("b)", 2), ("\n", None)])
def test_a_prediction_is_a_letter_or_nothing(line: str, number: int | None) -> None:
    assert replies.prediction(line, 3) == replies.Reply(number)


@pytest.mark.parametrize("line", ["d\n", "1\n", "ab\n", "two\n", "\x1b[A\n", "a b\n", "ä\n", "a" * 5000])
def test_a_prediction_that_makes_no_sense_is_answered_with_those_that_do(line: str) -> None:
    reply = replies.prediction(line, 3)

    assert (reply.number, reply.leaves) == (None, False)
    assert reply.help == "Type a, b or c, or press Enter to see without a prediction; q leaves."


@pytest.mark.parametrize("line", ["q\n", " Quit \n", "exit\n"])
def test_the_tour_is_left_at_each_prompt(line: str) -> None:
    assert replies.prediction(line, 3).leaves
    assert replies.command(line, "./lab", ["status"]).leaves
    assert replies.onward(line).leaves


@pytest.mark.parametrize(
    "line",
    ["\n", "./lab scale worker-default=2\n", "$ ./lab scale  worker-default=2", "lab scale worker-default=2", "scale 'worker-default=2'"],
)
def test_a_command_is_typed_or_taken_by_enter(line: str) -> None:
    assert replies.command(line, "./lab", ["scale", "worker-default=2"]) == replies.Reply()


@pytest.mark.parametrize("line", ["./lab scale worker-default=3", "scale", "./lab 'scale", "rm -rf /", "./lab status; reboot"])
def test_another_command_is_not_run(line: str) -> None:
    assert replies.command(line, "./lab", ["scale", "worker-default=2"]).help.startswith("Press Enter to run the command, or type it")


def test_a_command_may_be_typed_as_python_runs_it() -> None:
    assert replies.command("python -m airflow_celery_lab status", "python -m airflow_celery_lab", ["status"]) == replies.Reply()


def test_the_progress_is_read_as_it_was_written() -> None:
    made = Progress().after(1, right=True).after(2, right=False).after(3, right=None)

    assert progress.parse(made.as_text(), 8) == made
    assert (made.step, made.told()) == (4, "1 of your 2 predictions was right.")
    assert made.after(2, right=None).told() == "Your prediction was right."


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"step": 99, "predictions": {}}', '{"step": 3}', '{"step": 3, "predictions": {"a": 1}}']
)
def test_a_damaged_progress_is_the_beginning(text: str) -> None:
    assert progress.parse(text, 8) == Progress()
