"""A step of the tour: what it shows, what to predict, what is done, and how that is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Timeline

#: Stands in an address for that of the step's run in Airflow.
RUN = "{run}"


@dataclass(frozen=True)
class Question:
    """What to predict."""

    text: str
    answers: Mapping[str, str]  #: each under the word by which an outcome names it


class Seen(NamedTuple):
    """What the lab did in a step."""

    status: Status  #: a look right after the command
    run: Timeline | None  #: of the step's DAG, where it has one


@dataclass(frozen=True)
class Outcome:
    """What came of a step."""

    told: str  #: what was measured
    answer: str | None  #: the one that it shows to be right; None: it shows none


@dataclass(frozen=True)
class Look:
    """Where else it can be seen."""

    where: str
    address: str  #: RUN in it is the address of the step's run
    what: str


@dataclass(frozen=True)
class Beside:
    """A run of the step's DAG that is started before the command, and goes on meanwhile."""

    state: Literal["queued", "running"]  #: its tasks are in it when the command is run
    worker: str = ""  #: that runs one of them then; any
    ends: bool = True  #: its end is waited for


@dataclass(frozen=True)
class Undo:
    """What puts the lab back."""

    counts: Mapping[str, int] = field(default_factory=dict)  #: how often lines of the Procfile ran before
    ready: Sequence[str] = ()  #: processes that come back by themselves
    empty: str = ""  #: a queue in which messages were left


@dataclass(frozen=True)
class Step:
    """One step. `judge` reads what was seen, and asks nobody."""

    title: str
    about: Sequence[str]  #: paragraphs
    question: Question
    command: Sequence[str]  #: the words after the lab's own command
    judge: Callable[[Seen], Outcome]
    why: Sequence[str]  #: paragraphs
    looks: Sequence[Look]
    dag_id: str = ""
    groups: Sequence[Group] = ()
    beside: Beside | None = None
    undo: Undo = Undo()
    harms: str = ""  #: a worker that is killed with all that it runs


@dataclass(frozen=True)
class Missing:
    """A step that cannot be shown in this lab."""

    title: str
    why: str  #: and what to do
