"""An experiment: a question, a prediction that can fail, what is done, and how its data is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_celery_lab.timeline.spans import Timeline

if TYPE_CHECKING:
    from airflow_celery_lab.experiments.bench import Bench

Verdict = Literal["as predicted", "not as predicted", "could not tell"]


@dataclass(frozen=True)
class Check:
    """One claim of a prediction, and what the data says to it."""

    claim: str
    measured: str
    holds: bool | None  #: None: the data does not say


@dataclass(frozen=True)
class Finding:
    """What an experiment's data says."""

    checks: Sequence[Check]
    numbers: Mapping[str, float | None]  #: by what they are, with their unit; None for what did not happen


@dataclass(frozen=True)
class Setting:
    """A setting that the mechanism hangs on."""

    name: str  #: as Airflow's or Celery's documentation writes it
    does: str


@dataclass(frozen=True)
class Plan:
    """What an experiment works with in the lab that runs: its choice of the workers and queues that are there."""

    names: Mapping[str, str] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """What was done and seen: a timeline for each part of an experiment, by the part's name."""

    plan: Plan
    parts: Mapping[str, Timeline]
    #: What Airflow does not record, such as the processes of a pool: counted or timed meanwhile, by what it is.
    seen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """Something that an experiment did."""

    seconds: float  #: since it began
    what: str


@dataclass(frozen=True)
class Experiment:
    """An experiment. `measure` does, and returns data; `judge` reads that data alone."""

    name: str
    question: str
    prediction: str
    measure: Callable[[Bench], Measurement]
    judge: Callable[[Measurement], Finding]
    mechanism: str
    settings: Sequence[Setting]
    next: Sequence[str]  #: what to change and try
    seconds: int  #: that it takes, about


@dataclass(frozen=True)
class Result:
    """What came of an experiment."""

    experiment: Experiment
    verdict: Verdict
    steps: Sequence[Step]
    finding: Finding
    parts: Mapping[str, Timeline]
    why: str = ""  #: it could not tell

    def as_json(self) -> dict[str, Any]:
        """Return what `lab experiment --json` prints, and what `result.json` holds beside the timelines."""
        own = self.experiment
        return {
            "name": own.name,
            "verdict": self.verdict,
            "why": self.why,
            "question": own.question,
            "prediction": own.prediction,
            "checks": [vars(check) for check in self.finding.checks],
            "numbers": dict(self.finding.numbers),
            "steps": [vars(step) for step in self.steps],
            "mechanism": own.mechanism,
            "settings": {setting.name: setting.does for setting in own.settings},
            "next": list(own.next),
        }


def verdict(checks: Sequence[Check]) -> Verdict:
    """Return what checks come to: one that fails decides, and one that cannot be made leaves the question open."""
    if any(check.holds is False for check in checks):
        return "not as predicted"
    return "as predicted" if checks and all(check.holds for check in checks) else "could not tell"
