from __future__ import annotations

import json
import re

import pytest

from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.errors import UnknownExperimentError
from airflow_celery_lab.experiments import (
    autoscale,
    catalogue,
    figures,
    handbook,
    network,
    outages,
    parallelism,
    pools,
    prefetch,
    report,
    routing,
    scaling,
    visibility_timeout,
    worker_loss,
    workers_on_demand,
)
from airflow_celery_lab.experiments.experiment import Check, Experiment, Measurement, Plan, Result, verdict
from airflow_celery_lab.experiments.outages import DUE, RUNS, WAITS
from airflow_celery_lab.experiments.worker_line import WorkerLine
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


def test_workers_on_demand_are_as_predicted_only_if_they_come_run_tasks_and_go_and_no_task_is_lost() -> None:
    def of(*spans: Span, work: float = 3, after: float = 1, seconds: float | None = 40.0) -> str:
        seen = {workers_on_demand.AT_REST: 1.0, workers_on_demand.AT_WORK: work, workers_on_demand.AFTERWARDS: after}
        if seconds is not None:
            seen[workers_on_demand.RETREATS] = seconds
        parts = {workers_on_demand.FIXED: timeline(ran("work[0]", 0.0, 15.0)), workers_on_demand.FOLLOWING: timeline(*spans)}
        return verdict(workers_on_demand.judge(Measurement(Plan(), parts, seen)).checks)

    names = ("experiment-1", "experiment-1-2", "experiment-1-3")
    spans = [ran(f"work[{number}]", 0.0, 20.0, name) for number, name in enumerate(names)]
    assert of(*spans) == "as predicted"
    assert of(*spans[:2]) == "not as predicted"
    assert of(*spans, ran("work[3]", 20.0, workers_on_demand.ALONE + 1, names[0])) == "not as predicted"
    assert of(*spans, ran("work[3]", 20.0, 24.0, names[0], 2)) == "not as predicted"
    assert of(*spans, work=2) == "not as predicted"
    assert of(*spans, after=2, seconds=None) == "not as predicted"


def test_a_lost_worker_whose_tasks_do_not_run_again_is_not_as_predicted() -> None:
    marks = (Mark(5.0, "kill experiment-1", fault=True), Mark(6.0, "worker lost (1 task)", fault=True))
    first = [ran("work[0]", 0.0, 6.0, "experiment-1"), ran("work[1]", 0.0, 15.0, "experiment-2")]

    def of(*again: Span) -> str:
        found = Measurement(Plan({"victim": "experiment-1"}), {worker_loss.LOSS: timeline(*first, *again, marks=marks)})
        return verdict(worker_loss.judge(found).checks)

    assert of(ran("work[0]", 8.0, 23.0, "experiment-2", 2)) == "as predicted"
    assert of() == "not as predicted"
    assert of(ran("work[0]", 300.0, 315.0, "experiment-2", 2)) == "not as predicted"


DOWN, UP = 1.0, 13.0


def of_outage(*spans: Span, state: str = "success") -> str:
    marks = (Mark(DOWN, "stop redis"), Mark(UP, "start redis"))
    parts = {outages.BROKER.part: timeline(*spans, marks=marks, state=state)}
    measured = Measurement(Plan({"away": "redis"}), parts, {outages.READY: 5.0})
    return verdict(outages.BROKER.judge(measured).checks)


def test_an_outage_is_as_predicted_if_what_runs_ends_and_all_else_begins_once_and_later() -> None:
    held = [ran(f"{RUNS}[0]", 0.0, 8.0), ran(f"{RUNS}[1]", 0.1, 8.1)]
    due = [ran(DUE, 0.0, 0.5), ran(DUE, 17.0, 17.1)]
    waits = [ran(f"{WAITS}[0]", 16.0, 17.0), ran(f"{WAITS}[1]", 16.2, 17.2)]

    assert of_outage(*held, *due, *waits) == "as predicted"
    assert of_outage(held[0], ran(f"{RUNS}[1]", 0.1, 13.5), *due, *waits) == "not as predicted"
    assert of_outage(*held, *due, ran(f"{WAITS}[0]", 9.0, 10.0), waits[1]) == "not as predicted"
    assert of_outage(*held, *due, waits[0], state="failed") == "not as predicted"
    assert of_outage(*held, due[0], ran(DUE, 17.0, 17.1, number=2), *waits) == "not as predicted"
    assert of_outage(*held, *due, waits[0], ran(f"{WAITS}[1]", UP + 5.0 + outages.SOON + 1, 60.0)) == "not as predicted"


def test_nothing_is_said_of_an_outage_that_was_none() -> None:
    measured = Measurement(Plan({"away": "redis"}), {outages.BROKER.part: timeline()})

    assert verdict(outages.BROKER.judge(measured).checks) == "could not tell"


def of_cut(*spans: Span) -> str:
    marks = (Mark(DOWN, "cut link to redis"), Mark(UP, "heal link to redis"))
    return verdict(network.judge_cut(Measurement(Plan(), {network.CUT: timeline(*spans, marks=marks)})).checks)


def test_a_cut_network_is_as_predicted_if_what_waits_begins_once_and_soon_after_it_is_healed() -> None:
    held = [ran(f"{RUNS}[0]", 0.0, 8.0), ran(f"{RUNS}[1]", 0.1, 8.1)]
    after = [ran(DUE, UP + 0.1, UP + 0.2), ran(f"{WAITS}[0]", UP + 0.1, UP + 1.1), ran(f"{WAITS}[1]", UP + 0.2, UP + 1.2)]

    assert of_cut(*held, *after) == "as predicted"
    assert of_cut(*held, *after[:2]) == "not as predicted"
    assert of_cut(*held, *after[:2], ran(f"{WAITS}[1]", DOWN + 1, DOWN + 2)) == "not as predicted"
    assert of_cut(*held, *after[:2], ran(f"{WAITS}[1]", UP + outages.SOON + 1, UP + 12)) == "not as predicted"
    assert of_cut(*held, *after, ran(f"{WAITS}[1]", UP + 2, UP + 3, number=2)) == "not as predicted"
    assert verdict(network.judge_cut(Measurement(Plan(), {network.CUT: timeline(*held, *after)})).checks) == "could not tell"


def test_a_slow_link_is_as_predicted_if_redis_is_felt_between_tasks_and_the_api_server_within_them() -> None:
    def tasks(between: float, takes: float) -> Timeline:
        return timeline(*(ran(f"work[{place}]", place * (between + takes), place * (between + takes) + takes) for place in range(4)))

    def of(redis: Timeline, api: Timeline) -> str:
        parts = {network.CLEAN: tasks(0.2, 1.0), network.SLOW_REDIS: redis, network.SLOW_API_SERVER: api}
        return verdict(network.judge_slow(Measurement(Plan(), parts)).checks)

    assert of(tasks(4.0, 1.0), tasks(1.0, 2.0)) == "as predicted"
    assert of(tasks(0.3, 1.0), tasks(1.0, 2.0)) == "not as predicted"
    assert of(tasks(4.0, 2.0), tasks(1.0, 2.0)) == "not as predicted"
    assert of(tasks(4.0, 1.0), tasks(1.0, 1.1)) == "not as predicted"
    assert of(tasks(4.0, 1.0), timeline()) == "could not tell"


def test_prefetch_is_as_predicted_only_if_what_was_taken_ahead_waits_beside_an_idle_worker() -> None:
    def run(behind: int) -> Timeline:
        long = ran("long", 0.0, 14.0, "experiment-1")
        others = [ran(f"short[{place}]", place, place + 0.5, "experiment-2") for place in range(prefetch.NUMBER - behind)]
        return timeline(long, *others, *(ran(f"short[{9 - place}]", 14.1 + place, 14.6 + place, "experiment-1") for place in range(behind)))

    def of(one: int, many: int, early: int) -> str:
        parts = {prefetch.ONE: run(one), prefetch.MANY: run(many), prefetch.EARLY: run(early)}
        return verdict(prefetch.judge(Measurement(Plan(), parts)).checks)

    assert of(0, 3, 1) == "as predicted"
    assert of(0, 0, 1) == "not as predicted"
    assert of(1, 3, 1) == "not as predicted"
    assert of(0, 3, 0) == "not as predicted"


def test_autoscaling_is_not_as_predicted_where_no_process_is_added_or_none_goes_again() -> None:
    def at_once(number: int) -> Timeline:
        return timeline(*(ran(f"work[{place}]", 3.0 * (place // number), 3.0 * (place // number + 1)) for place in range(autoscale.TASKS)))

    def of(wide: Timeline, at_work: int, afterwards: int) -> str:
        seen = {f"{autoscale.FIXED}, {autoscale.AT_REST}": 4, f"{autoscale.FIXED}, {autoscale.AT_WORK}": 4}
        seen |= {f"{autoscale.FOLLOWING}, {autoscale.AT_REST}": 1, f"{autoscale.FOLLOWING}, {autoscale.AT_WORK}": at_work}
        measured = {**seen, f"{autoscale.FOLLOWING}, {autoscale.AFTERWARDS}": afterwards, autoscale.SHRINKS: 6.0}
        return verdict(autoscale.judge(Measurement(Plan(), {autoscale.FIXED: at_once(4), autoscale.FOLLOWING: wide}, measured)).checks)

    assert of(at_once(4), 4, 1) == "as predicted"
    assert of(at_once(1), 1, 1) == "not as predicted"
    assert of(at_once(4), 4, 4) == "not as predicted"


def test_a_second_delivery_that_cuts_a_task_off_or_never_comes_is_not_as_predicted() -> None:
    whole = timeline(ran("work[0]", 0.0, 12.1, "experiment-1"), ran("work[1]", 0.0, 12.2, "experiment-2"))
    twice = timeline(ran("work[0]", 0.0, 5.0), ran("work[0]", 5.0, 17.1, number=2), ran("work[1]", 0.0, 12.2))

    def of(short: Timeline, deliveries: int) -> str:
        parts, seen = {visibility_timeout.LONG: whole, visibility_timeout.SHORT: short}, {visibility_timeout.LONG: 2}
        return verdict(visibility_timeout.judge(Measurement(Plan(), parts, {**seen, visibility_timeout.SHORT: deliveries})).checks)

    assert of(whole, 4) == "as predicted"
    assert of(whole, 2) == "not as predicted"
    assert of(twice, 4) == "not as predicted"


def test_a_pool_that_lets_all_tasks_into_the_queue_is_not_as_predicted() -> None:
    def at_once(number: int) -> Timeline:
        return timeline(*(ran(f"work[{place}]", 3.0 * (place // number), 3.0 * (place // number + 1)) for place in range(pools.TASKS)))

    def of(narrow: Timeline, queued: int) -> str:
        parts, seen = {pools.FREE: at_once(4), pools.POOL: narrow}, {pools.FREE: 4, pools.POOL: queued}
        return verdict(pools.judge(Measurement(Plan(), parts, seen)).checks)

    assert of(at_once(2), 0) == "as predicted"
    assert of(at_once(4), 0) == "not as predicted"
    assert of(at_once(2), 6) == "not as predicted"


def test_the_line_of_an_experiments_worker_is_one_of_a_procfile_with_its_variables_where_a_shell_takes_them() -> None:
    line = WorkerLine(4, least=1, variables={"A": "1", "B": "2"})
    (parsed,) = procfile.parse(f"experiment-1: {line.command('cd /tmp && C=3 ./lab')}")

    assert parsed.command.startswith("cd /tmp && A=1 B=2 C=3 ./lab exec airflow celery worker ")
    assert (parsed.service.kind, parsed.service.queues, parsed.service.concurrency) == ("worker", ("experiment",), 4)


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


@pytest.mark.parametrize("place", range(len(catalogue.EXPERIMENTS)), ids=[one.name for one in catalogue.EXPERIMENTS])
def test_the_handbook_says_of_each_experiment_what_the_experiment_says(place: int) -> None:
    experiment, following = catalogue.EXPERIMENTS[place], next(iter(catalogue.EXPERIMENTS[place + 1 :]), None)
    text = (CHECKOUT / "docs" / "experiments" / f"{experiment.name}.md").read_text(encoding="utf-8")

    # Else: docs/make-experiment-pages.
    assert text == handbook.page(experiment, handbook.measured_in(text), following)


def test_the_handbook_lists_all_experiments() -> None:
    text = (CHECKOUT / "docs" / "experiments.md").read_text(encoding="utf-8")

    assert text == handbook.with_list(text, catalogue.EXPERIMENTS)
    assert len(list((CHECKOUT / "docs" / "experiments").glob("*.md"))) == len(catalogue.EXPERIMENTS)


def test_what_was_measured_is_written_and_found_again_in_a_page() -> None:
    finding = parallelism.judge(Measurement(Plan(slots={"w": 4}), {parallelism.ALL: together(), parallelism.ONE: in_turn()}))
    result = Result(parallelism.EXPERIMENT, "as predicted", (), finding, {})
    measured = handbook.measurements(result.as_json(), "on one machine", "picture.png")

    assert "As predicted; on one machine." in measured
    assert "| seconds on one slot | 12 |" in measured
    assert handbook.measured_in(handbook.page(parallelism.EXPERIMENT, measured, None)) == measured
