"""The eight steps, for the lab in which they are made: its workers, queues and addresses are in their sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from airflow_celery_lab.cluster.broker import Worker
from airflow_celery_lab.configuration import names
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.tour import outcomes
from airflow_celery_lab.tour.outcomes import UNHEARD
from airflow_celery_lab.tour.place import Addresses, Place
from airflow_celery_lab.tour.step import RUN, Beside, Look, Missing, Question, Step, Undo

TITLES = (
    "Who is there",
    "Tasks at the same time",
    "A queue of its own",
    "A queue that nobody hears",
    "One more worker, while tasks run",
    "A worker dies",
    "Waiting without a slot",
    "Who ran what, and when",
)
#: Seconds of a task: of those that overlap, that wait for a second worker, that lose theirs, that are deferred, that are drawn.
TOGETHER, WAVE, LOST, DEFERRED, DRAWN = 3.0, 3.0, 5.0, 5.0, 1.0
#: How many tasks there are for each slot where some have to wait, and how many more than slots at most.
ROUNDS, MORE = 4, 100
#: The longest list of workers in a sentence.
NAMED = 3


def steps(place: Place) -> list[Step | Missing]:
    """Return the steps, in their order."""
    made: Sequence[Callable[[Place, str], Step | Missing]] = (
        _processes,
        _together,
        _routing,
        _unheard,
        _scaling,
        _loss,
        _deferred,
        _timeline,
    )
    return [make(place, title) for make, title in zip(made, TITLES, strict=True)]


def farewell(at: Addresses) -> list[tuple[str, str]]:
    """Return what to do after the tour: a command or a page, and what it is for."""
    return [
        (f"{at.me} experiment", "more questions, each with a prediction and a verdict"),
        (f"{at.me} experiment faults --quick", "what the loss of Redis, Postgres or the scheduler costs"),
        (f"{at.docs}/own-dags.md", "your own DAGs in the lab"),
        (f"{at.docs}/testing-dags.md", "tests of routing and of lost workers, in pytest"),
        (f"{at.docs}/scaling.md", "workers, queues and slots that stay: the Procfile"),
    ]


def _processes(place: Place, title: str) -> Step:
    slots = sum(worker.concurrency for worker in place.workers)
    numbers = {1: "one after the other", len(place.workers): "one for each worker", slots: "one for each slot"}
    return Step(
        title,
        about=[
            (
                "Airflow with Celery is a team of processes. The scheduler decides which task may run, and puts a message into a "
                "queue, a list in Redis. A worker takes the message out, and runs the task in one of its slots."
            ),
            f"`{place.at.me} status` shows the processes of this lab, its workers with their queues and slots, and the queues.",
        ],
        question=Question(
            "How many tasks can this lab run at one moment?",
            {str(number): f"{number}, {what}" for number, what in sorted(numbers.items())},
        ),
        command=["status"],
        judge=outcomes.processes,
        why=[
            "A slot is a process that the worker has started for tasks. Their number is --concurrency in the worker's line of the Procfile.",
            f"In Airflow and Flower you are the user {ADMIN}; `{place.at.me} password` prints the password.",
        ],
        looks=[_lab(place, "the same, live"), *_flower(place, "/workers", "the workers, as Celery knows them")],
    )


def _together(place: Place, title: str) -> Step:
    total = 4 * TOGETHER
    return Step(
        title,
        about=[
            (
                f"tour_parallel has four tasks of {TOGETHER:g} s: a, b, c and d. None waits for another, so the scheduler sends all of "
                f"them to the queue {place.queue} at once. {_listen(place.on(place.queue))}"
            ),
        ],
        question=Question(
            "How do the four tasks run?",
            {"4": "all at the same time", "2": "two at a time", "1": "one after another"},
        ),
        command=["run", "tour_parallel"],
        judge=partial(outcomes.together, total=total),
        why=[
            (
                "The column WORKER says who ran a task; in a wide terminal, WAITED says how long it waited for a slot. Tasks run together as far "
                "as slots are free. The others wait in the queue."
            ),
        ],
        looks=[
            Look("Airflow", RUN, "the run, with its tasks and their logs"),
            _lab(place, "which slot ran which task"),
            *_flower(place, "/tasks", "each task as Celery saw it"),
        ],
        dag_id="tour_parallel",
        groups=[Group(name, place.queue, TOGETHER) for name in "abcd"],
    )


def _routing(place: Place, title: str) -> Step | Missing:
    if not place.heavy:
        return Missing(
            title,
            f"This lab has no worker that listens to another queue than {place.queue} alone. Copy the line of {place.worker} in the Procfile, "
            f"give it another name and --queues heavy, and run `{place.at.me} apply` and `{place.at.me} tour --from 3`.",
        )
    heavy, light = place.on(place.heavy), place.on(place.queue)
    return Step(
        title,
        about=[
            f'A task may name its queue: @task(queue="{place.heavy}").',
            f"tour_routing has two tasks `light` on {place.queue}, and two tasks `heavy` on {place.heavy}.",
        ],
        question=Question(
            "Who runs the tasks `heavy`?",
            {
                "free": "the worker that is free first",
                "heavy": f"{_names(heavy)}, which listens to {place.heavy}",
                "light": f"{_names(light)}, which has more slots" if place.slots > _slots(heavy) else f"{_names(light)}, the first one",
            },
        ),
        command=["run", "tour_routing"],
        judge=partial(outcomes.routing, heavy=_all(heavy), light=_all(light)),
        why=[
            (
                "A worker takes messages from the queues that it was started with (--queues), and from no other. So heavy tasks can have machines of "
                "their own, and keep no light ones waiting."
            ),
        ],
        looks=[
            Look("Airflow", RUN, "open Task Instances, and choose the columns Queue and Hostname"),
            *_flower(place, f"/worker/{names.node_name(heavy[0].name)}", f"{heavy[0].name} alone, with its queues"),
        ],
        dag_id="tour_routing",
        groups=[Group("light", place.queue, 1.0, 2), Group("heavy", place.heavy, 1.0, 2)],
    )


def _unheard(place: Place, title: str) -> Step:
    fails = (
        f"Here they wait for {place.patience:g} s; then the lab lets them fail, and their log says why (LAB_LISTENER_TIMEOUT)."
        if place.patience
        else "Here they wait forever (LAB_LISTENER_TIMEOUT=0)."
    )
    return Step(
        title,
        about=[
            (
                f"Nobody checks the name of a queue. tour_unheard has two tasks on the queue {UNHEARD}, to which no worker listens. "
                "The tour starts it, and then the command looks at the lab."
            ),
        ],
        question=Question(
            "What becomes of the two tasks?",
            {"failed": "they fail at once", "waiting": "they wait in the queue", "ran": "a worker that has nothing to do runs them"},
        ),
        command=["status"],
        judge=outcomes.unheard,
        why=[
            "Celery makes a queue when it is first used, so no name is wrong. The warning at the end of `status` says what to do.",
            f"{fails} With its own settings Airflow sends such a task again after 600 s, and fails it in the end.",
        ],
        looks=[
            Look("Airflow", RUN, "the tasks are queued, and nothing says why"),
            _lab(place, f"the queue {UNHEARD} has no listener"),
        ],
        dag_id="tour_unheard",
        groups=[Group("work", UNHEARD, 1.0, 2)],
        beside=Beside("queued", ends=False),
        undo=Undo(empty=UNHEARD),
    )


def _scaling(place: Place, title: str) -> Step | Missing:
    if not place.line:
        return Missing(
            title,
            f"The Procfile has no line that can run once more for the queue {place.queue}. "
            f"Look at the Procfile, run `{place.at.me} apply`, and then `{place.at.me} tour --from 5`.",
        )
    tasks = min(ROUNDS * place.slots, place.slots + MORE)
    new = names.instance_name(place.line, place.instances + 1)
    return Step(
        title,
        about=[
            (
                f"tour_scale has {tasks} tasks of {WAVE:g} s on the queue {place.queue}. There are {_count(place.slots, 'slot')} for them, so "
                f"{tasks - place.slots} tasks have to wait. While they do, you start one more worker, {new}."
            ),
        ],
        question=Question(
            f"Which of the tasks does {new} run?",
            {
                "none": "none: they were sent before it was there",
                "waiting": "some of those that still wait in the queue",
                "moved": f"some of those that {place.worker} is running",
            },
        ),
        command=["scale", f"{place.line}={place.instances + 1}"],
        judge=partial(outcomes.scaling, new=new),
        why=[
            "A message in a queue belongs to nobody: a worker with a free slot takes the next one. Running tasks stay where they are.",
            f"`{place.at.me} scale` is for a moment. Edit the Procfile and run `{place.at.me} apply` for what should stay.",
        ],
        looks=[_lab(place, f"{new}, and what it ran"), *_flower(place, "/workers", "one more worker")],
        dag_id="tour_scale",
        groups=[Group("work", place.queue, WAVE, tasks)],
        beside=Beside("running"),
        undo=Undo(counts={place.line: place.instances}),
    )


def _loss(place: Place, title: str) -> Step:
    own = next(worker for worker in place.workers if worker.name == place.worker)
    # So many that one of them is on that worker, wherever the others are.
    tasks = place.slots - own.concurrency + min(2, own.concurrency)
    return Step(
        title,
        about=[
            (
                f"tour_loss has {_count(tasks, 'task')} of {LOST:g} s on the queue {place.queue}. The tour starts it and waits until "
                f"{place.worker} runs one. Then you kill that worker with all its processes, as if its machine had lost power."
            ),
        ],
        question=Question(
            f"What becomes of the task on {place.worker}?",
            {
                "failed": "it fails, and the run with it",
                "again": "it starts again from the beginning, as a second try",
                "on": "another worker goes on with it where it was",
            },
        ),
        command=["kill", place.worker],
        judge=partial(outcomes.loss, victim=place.worker),
        why=[
            (
                "The lab sees that the worker's processes have ended, and tells Airflow at once; supervisord starts the worker again. "
                "Airflow alone waits for 300 s in which it hears nothing of the task."
            ),
            "A second try needs `retries` on the task, as it has here. Without it the run fails.",
        ],
        looks=[Look("Airflow", RUN, "a task with two tries; the log of the first says why it ended"), _lab(place, "the kill, as a line")],
        dag_id="tour_loss",
        groups=[Group("work", place.queue, LOST, tasks)],
        beside=Beside("running", place.worker),
        undo=Undo(ready=[place.worker]),
        harms=place.worker,
    )


def _deferred(place: Place, title: str) -> Step | Missing:
    if not place.triggerer:
        return Missing(
            title,
            "No triggerer runs in this lab, and deferred tasks need one. Add the line of the triggerer to the Procfile (see `init`), "
            f"and run `{place.at.me} apply` and `{place.at.me} tour --from 7`.",
        )
    tasks = place.slots + 4
    return Step(
        title,
        about=[
            "A task that only waits, for a file or an hour, need not hold a slot: deferred, it hands its wait to the triggerer.",
            f"tour_deferred has {tasks} tasks on {place.queue} that are deferred for {DEFERRED:g} s. There are {_count(place.slots, 'slot')} for them.",
        ],
        question=Question(
            "How many of them wait at one moment?",
            {
                "one": "one: they wait in turn",
                "slots": f"{place.slots}, one in each slot",
                "more": f"more than there are slots, up to all {tasks}",
            },
        ),
        command=["run", "tour_deferred"],
        judge=partial(outcomes.deferred, tasks=tasks, slots=place.slots),
        why=[
            (
                "A deferred task leaves its slot, and the triggerer waits for all of them in one process. When a wait is over, the task is sent to its "
                "queue once more. Sensors and many operators have deferrable=True for it."
            ),
        ],
        looks=[
            Look("Airflow", RUN, "open Timeline: a deferred task holds no slot"),
            *_flower(place, "/tasks", "each task is there twice: before its wait and after it"),
        ],
        dag_id="tour_deferred",
        groups=[Group("wait", place.queue, DEFERRED, tasks, deferred=True)],
    )


def _timeline(place: Place, title: str) -> Step:
    tasks = min(2 * place.slots, place.slots + MORE)
    return Step(
        title,
        about=[
            f"tour_timeline has {tasks} tasks of {DRAWN:g} s on the queue {place.queue}. There are {_count(place.slots, 'slot')} for them.",
            "--timeline draws the run: a lane for each slot, a bar for each task.",
        ],
        question=Question(
            "How does a timeline show that there are too few slots?",
            {
                "gaps": "by gaps between the bars",
                "waits": "by a bar of waiting before the bar of the task",
                "tries": "by tasks with two tries",
            },
        ),
        command=["run", "tour_timeline", "--timeline"],
        judge=outcomes.timeline,
        why=[
            (
                "The page that was printed last needs no network; open it in a browser. Long waits before full lanes: more slots help. Gaps in the lanes: "
                "the tasks wait for each other, and more slots do not help."
            ),
        ],
        looks=[Look("Airflow", RUN, "the tab Timeline is the same page"), _lab(place, "the last three minutes, of all runs")],
        dag_id="tour_timeline",
        groups=[Group("work", place.queue, DRAWN, tasks)],
    )


def _lab(place: Place, what: str) -> Look:
    return Look("Lab", f"{place.at.airflow}/plugin/lab", what)


def _flower(place: Place, path: str, what: str) -> list[Look]:
    return [Look("Flower", place.at.flower + path, what)] if place.at.flower else []


def _listen(workers: Sequence[Worker]) -> str:
    if len(workers) == 1:
        return f"{workers[0].name} listens there, with {_count(workers[0].concurrency, 'slot')}."
    return f"{_names(workers)} listen there, with {_slots(workers)} slots in all."


def _names(workers: Sequence[Worker]) -> str:
    named = [worker.name for worker in workers[:NAMED]]
    more = len(workers) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _all(workers: Iterable[Worker]) -> frozenset[str]:
    return frozenset(worker.name for worker in workers)


def _slots(workers: Iterable[Worker]) -> int:
    return sum(worker.concurrency for worker in workers)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
