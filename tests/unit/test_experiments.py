from __future__ import annotations

import json
import re

import pytest

from airflow_celery_lab.errors import UnknownExperimentError
from airflow_celery_lab.experiments import catalogue, figures, parallelism, report, routing, scaling, worker_loss
from airflow_celery_lab.experiments.experiment import Check, Experiment, Measurement, Plan, Result, verdict
from airflow_celery_lab.inside_airflow import experiment_groups
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Mark, Span, Timeline


def ran(name: str, start: float, end: float, worker: str = "worker-default", number: int = 1) -> Span:
    return Span("running", name, name.partition("[")[0], -1, number, "default", worker, 1, start, end, "success")


def waited(name: str, seconds: float) -> Span:
    return Span("waiting", name, name.partition("[")[0], -1, 1, "default", "worker-default", 1, 0.0, seconds, "scheduled")


def timeline(*spans: Span, marks: tuple[Mark, ...] = (), state: str = "success") -> Timeline:
    return Timeline("experiment", "run", state, 0.0, max((span.end or 0.0 for span in spans), default=0.0), spans, marks)


def together() -> Timeline:
    return timeline(*(ran(name, 0.1 * place, 3.0 + 0.1 * place) for place, name in enumerate("abcd")))


def in_turn() -> Timeline:
    return timeline(*(ran(name, 3.0 * place, 3.0 * (place + 1)) for place, name in enumerate("abcd")))


def of_parallelism(wide: Timeline, narrow: Timeline) -> str:
    measured = Measurement(Plan(slots={"worker-default": 4}), {parallelism.ALL: wide, parallelism.ONE: narrow})
    return verdict(parallelism.judge(measured).checks)


def test_tasks_that_follow_each_other_do_not_overlap() -> None:
    assert figures.peak(in_turn(), in_turn().spans) == 1
    assert figures.peak(together(), together().spans) == 4


def test_parallelism_is_as_predicted_only_if_tasks_overlap_on_many_slots_and_not_on_one() -> None:
    assert of_parallelism(together(), in_turn()) == "as predicted"
    assert of_parallelism(in_turn(), in_turn()) == "not as predicted"
    assert of_parallelism(together(), together()) == "not as predicted"


def test_routing_is_not_as_predicted_where_nobody_ran_the_heavy_tasks() -> None:
    light = [ran("light", 0.1, 0.6), waited("light", 0.1)]
    heavy = [ran("heavy", 0.0, 3.0, "worker-high-cpu")]
    shared = timeline(ran("heavy", 0.0, 3.0), ran("light", 3.0, 3.5), waited("light", 3.0))

    def of(apart: Timeline) -> str:
        plan = Plan({"heavy": "high_cpu", "light": "default"}, {"worker-high-cpu": 2})
        return verdict(routing.judge(Measurement(plan, {routing.APART: apart, routing.SHARED: shared})).checks)

    assert of(timeline(*heavy, *light)) == "as predicted"
    assert of(timeline(*light, state="running")) == "not as predicted"
    assert of(timeline(ran("heavy", 0.0, 3.0), *light)) == "not as predicted"


def test_a_speed_up_above_the_ideal_says_nothing_and_one_far_below_it_is_not_as_predicted() -> None:
    def of(*seconds: float) -> str:
        parts = {
            part: timeline(*(ran("work", 0.0, end, f"experiment-{number}") for number in range(count)))
            for count, part, end in zip(scaling.COUNTS, ("1 worker", "2 workers", "4 workers"), seconds, strict=True)
        }
        return verdict(scaling.judge(Measurement(Plan(), parts)).checks)

    assert of(40.0, 21.0, 12.0) == "as predicted"
    assert of(40.0, 15.0, 12.0) == "could not tell"
    assert of(40.0, 39.0, 38.0) == "not as predicted"


def test_a_lost_worker_whose_tasks_do_not_run_again_is_not_as_predicted() -> None:
    marks = (Mark(5.0, "kill experiment-1", fault=True), Mark(6.0, "worker lost (1 task)", fault=True))
    first = [ran("work[0]", 0.0, 6.0, "experiment-1"), ran("work[1]", 0.0, 15.0, "experiment-2")]

    def of(*again: Span) -> str:
        found = Measurement(Plan({"victim": "experiment-1"}), {worker_loss.LOSS: timeline(*first, *again, marks=marks)})
        return verdict(worker_loss.judge(found).checks)

    assert of(ran("work[0]", 8.0, 23.0, "experiment-2", 2)) == "as predicted"
    assert of() == "not as predicted"
    assert of(ran("work[0]", 300.0, 315.0, "experiment-2", 2)) == "not as predicted"


def test_a_check_that_fails_decides_and_one_that_cannot_be_made_leaves_the_question_open() -> None:
    yes, no, unknown = (Check("claim", "measured", holds) for holds in (True, False, None))

    assert verdict([yes, yes]) == "as predicted"
    assert verdict([yes, unknown]) == "could not tell"
    assert verdict([no, unknown]) == "not as predicted"
    assert verdict([]) == "could not tell"


def test_a_dag_file_says_what_its_groups_are() -> None:
    groups = [Group("it's", "default", 1.5, 3), Group("late", "high_cpu", 1.0, after="it's", pool="narrow")]
    made: list[object] = []
    text = re.sub(r"^from .*$", "", experiment_groups.source("experiment_it", groups), flags=re.MULTILINE)

    exec(compile(text, "dag.py", "exec"), {"Group": Group, "experiment_dag": lambda *given: made.append(given)})  # noqa: S102  # it is ours

    assert made == [("experiment_it", groups)]


def test_experiments_and_faults_are_chosen_by_name_and_each_once() -> None:
    choice = catalogue.choose(["routing", "all", "kill-redis", "kill-redis"])

    assert choice.experiments[0].name == "routing"
    assert len(choice.experiments) == len(catalogue.EXPERIMENTS)
    assert [fault.name for fault in choice.faults] == ["kill-redis"]
    with pytest.raises(UnknownExperimentError, match="did you mean 'routing'"):
        catalogue.choose(["rooting"])


def test_no_two_of_all_experiments_and_faults_have_one_name() -> None:
    choice = catalogue.choose(["all", "faults"])
    names = [*(one.name for one in choice.experiments), *(one.name for one in choice.faults)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("experiment", catalogue.EXPERIMENTS, ids=[one.name for one in catalogue.EXPERIMENTS])
def test_the_page_of_each_experiment_says_what_was_asked_expected_and_found(experiment: Experiment) -> None:
    result = Result(
        experiment,
        "could not tell",
        (),
        parallelism.judge(Measurement(Plan(slots={"w": 4}), {parallelism.ALL: together(), parallelism.ONE: in_turn()})),
        {"<part>": together()},
        "no worker",
    )
    page = report.page(result)

    assert "could not tell" in page
    assert "&lt;part&gt;" in page
    assert experiment.settings[0].name.split("(")[0] in page
    assert json.loads(report.data(result))["parts"]["<part>"]["state"] == "success"
