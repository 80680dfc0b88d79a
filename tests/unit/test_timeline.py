from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import plotly.graph_objects
import pytest

from airflow_celery_lab.cluster.connections import Living
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.journal import Act
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.timeline import lanes, layout, page, recording, spans, trace
from airflow_celery_lab.timeline.spans import Mark, Recording, Span, Timeline, Window

RECORDINGS = Path(__file__).parent / "recordings"


def recorded(name: str) -> Recording:
    """What Airflow's REST API and the lab's journal gave for a real run."""
    data = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))
    return Recording(**{**data, "acts": [Act(*act) for act in data["acts"]]})


def timeline(name: str) -> Timeline:
    return spans.timeline(recorded(name))


def window(start: float, end: float, *names: str) -> Timeline:
    """All of these runs in a window of time, as the database gives them."""
    those = [recorded(name) for name in names]
    tries = [{**row, "dag_id": one.run["dag_id"], "run_id": one.run["dag_run_id"]} for one in those for row in one.tries]
    events = [{**event, "dag_id": one.run["dag_id"], "run_id": one.run["dag_run_id"]} for one in those for event in one.events]
    return spans.recent(Window(tries, events, [act for one in those for act in one.acts], {}, start, end))


def brief(found: Timeline) -> list[tuple[str, str, int, str | None, int | None, float, float | None, str]]:
    """The spans with times in tenths of a second since the run's start."""
    return [
        (
            span.kind,
            span.name,
            span.try_number,
            span.worker,
            span.slot,
            round(span.start - found.start, 1),
            None if span.end is None else round(span.end - found.start, 1),
            span.state,
        )
        for span in found.spans
    ]


class TestSpans:
    def test_tasks_that_run_at_once_are_in_slots_of_their_own_after_their_waits(self) -> None:
        assert brief(timeline("four_at_once")) == [
            ("waiting", "a", 1, "worker-default", 3, 0.0, 0.9, "running"),
            ("waiting", "b", 1, "worker-default", 2, 0.0, 0.8, "running"),
            ("waiting", "c", 1, "worker-default", 1, 0.0, 0.8, "running"),
            ("waiting", "d", 1, "worker-default", 4, 0.0, 1.1, "running"),
            ("running", "c", 1, "worker-default", 1, 0.8, 6.3, "success"),
            ("running", "b", 1, "worker-default", 2, 0.8, 6.2, "success"),
            ("running", "a", 1, "worker-default", 3, 0.9, 6.3, "success"),
            ("running", "d", 1, "worker-default", 4, 1.1, 6.2, "success"),
        ]

    def test_a_try_that_ended_with_its_worker_is_lost_and_tied_to_the_next_one(self) -> None:
        found = timeline("lost_worker")

        assert brief(found) == [
            ("waiting", "count", 1, "worker-default", 1, 0.0, 2.7, "running"),
            ("running", "count", 1, "worker-default", 1, 2.7, 5.6, "lost"),
            ("waiting", "count", 2, "worker-default", 1, 6.6, 9.5, "running"),
            ("running", "count", 2, "worker-default", 1, 9.5, 17.6, "success"),
        ]
        assert [(before.try_number, after.try_number) for before, after in found.retries()] == [(1, 2)]
        assert [(mark.what, mark.fault) for mark in found.marks] == [("kill worker-default", True), ("worker lost (1 task)", True)]
        assert found.marks[1].detail.startswith("worker-default was lost at 12:08:03 UTC")

    def test_time_that_a_task_was_deferred_is_apart_from_the_time_in_which_it_ran(self) -> None:
        assert [row for row in brief(timeline("deferral")) if row[1] == "wait_0"] == [
            ("running", "wait_0", 1, "worker-default", 3, 0.3, 0.4, "deferred"),
            ("deferred", "wait_0", 1, "worker-default", None, 0.4, 10.0, "deferred"),
            ("waiting", "wait_0", 1, "worker-default", 1, 10.0, 11.7, "running"),
            ("running", "wait_0", 1, "worker-default", 1, 11.7, 11.8, "success"),
        ]

    def test_without_events_no_time_of_a_deferred_task_is_said_to_be_in_a_slot(self) -> None:
        """Airflow 3.1 has none."""
        found = spans.timeline(recorded("deferral")._replace(events=[]))

        assert [row for row in brief(found) if row[1] == "wait_0"] == [
            ("deferred", "wait_0", 1, "worker-default", None, 0.2, 11.8, "success"),
        ]

    def test_mapped_tasks_have_their_index(self) -> None:
        found = timeline("mapped")

        assert [(span.name, span.task_id, span.map_index) for span in found.of_kind("running")] == [
            ("prepare", "prepare", -1),
            ("compute[1]", "compute", 1),
            ("compute[0]", "compute", 0),
            ("report", "report", -1),
        ]
        assert {span.slot for span in found.of_kind("running") if span.worker == "worker-high-cpu"} == {1, 2}

    def test_what_goes_on_has_no_end_and_is_drawn_until_now(self) -> None:
        found = timeline("going_on")

        assert [(span.name, span.end) for span in found.of_kind("deferred")] == [("wait_2", None), ("wait_0", None), ("wait_1", None)]
        assert {found.until(span) for span in found.of_kind("deferred")} == {recorded("going_on").now} == {found.end}

    def test_a_task_that_no_worker_has_taken_waits_without_a_slot(self) -> None:
        record = recorded("going_on")
        waits = {**record.tries[0], "task_id": "late", "state": "scheduled", "hostname": "", "start_date": None}

        (late,) = [span for span in spans.timeline(record._replace(tries=[waits])).spans if span.name == "late"]

        assert (late.kind, late.worker, late.slot, late.end, late.state) == ("waiting", None, None, None, "scheduled")

    @pytest.mark.parametrize("state", ["upstream_failed", "skipped", "removed"])
    def test_a_task_for_which_no_worker_was_asked_has_no_span(self, state: str) -> None:
        record = recorded("four_at_once")
        never = {**record.tries[0], "state": state, "hostname": ""}

        assert spans.timeline(record._replace(tries=[never])).spans == []

    def test_a_run_that_has_ended_leaves_nothing_open(self) -> None:
        record = recorded("four_at_once")
        left = {**record.tries[0], "state": "running", "end_date": None}

        found = spans.timeline(record._replace(tries=[left]))

        assert [span.end for span in found.of_kind("running")] == [found.end]

    def test_what_was_done_to_the_lab_before_and_after_the_run_is_no_mark_of_it(self) -> None:
        record = recorded("four_at_once")
        start, end = timeline("four_at_once").start, timeline("four_at_once").end
        acts = [Act(start - 1, "up", []), Act(start + 1, "added", ["w-2", "w-3"]), Act(end + 1, "down", [])]

        marks = spans.timeline(record._replace(acts=acts)).marks

        assert [(mark.what, mark.fault) for mark in marks] == [("added w-2, w-3", False)]

    def test_the_loss_of_one_worker_is_one_mark_however_many_tasks_it_ran(self) -> None:
        record = recorded("lost_worker")
        lost = [{**record.events[0], "map_index": index} for index in range(3)]

        assert [mark.what for mark in spans.timeline(record._replace(acts=[], events=lost)).marks] == ["worker lost (3 tasks)"]

    def test_a_run_that_has_not_started_has_no_spans(self) -> None:
        run = {"dag_id": "d", "dag_run_id": "r", "state": "queued", "start_date": None, "end_date": None}

        found = spans.timeline(Recording(run, [], [], [], {}, now=5.0))

        assert (found.spans, found.start, found.end) == ([], 5.0, 5.0)
        assert page.figure(found)["data"][0]["x"] == []

    def test_the_json_has_spans_and_marks(self) -> None:
        data = json.loads(json.dumps(timeline("lost_worker").as_json()))

        assert set(data) == {"dag_id", "run_id", "state", "start", "end", "spans", "marks", "slots"}
        assert set(data["spans"][0]) == set(Span.__dataclass_fields__)


class TestWindow:
    def test_a_run_has_the_same_spans_in_a_window_under_the_name_of_its_dag(self) -> None:
        alone = timeline("lost_worker")
        found = window(alone.start, alone.end, "lost_worker")

        assert brief(found) == [(kind, f"{alone.dag_id}.{name}", *rest) for kind, name, *rest in brief(alone)]
        assert [mark.what for mark in found.marks] == [mark.what for mark in alone.marks]
        assert len(found.retries()) == len(alone.retries()) == 1

    def test_what_ended_before_the_window_is_left_out(self) -> None:
        alone = timeline("lost_worker")
        found = window(alone.start + 6, alone.end, "lost_worker")

        assert [(span.kind, span.try_number) for span in found.spans] == [("waiting", 2), ("running", 2)]
        assert [mark for mark in found.marks if mark.when < alone.start + 6] == []

    def test_tasks_of_one_name_in_two_runs_are_not_tied_as_tries(self) -> None:
        first = Span("running", "a", "a", -1, 1, "q", "w", 1, 0.0, 1.0, "success", "run 1")
        second = replace(first, run_id="run 2", try_number=2, start=2.0, end=3.0)

        assert Timeline("~", "~", "running", 0.0, 3.0, [first, second]).retries() == []
        assert len(Timeline("~", "~", "running", 0.0, 3.0, [first, replace(second, run_id="run 1")]).retries()) == 1

    def test_its_axis_counts_back_from_now(self) -> None:
        alone = timeline("four_at_once")
        figure = page.figure(window(alone.end - 180, alone.end, "four_at_once"))

        assert figure["layout"]["xaxis"]["title"]["text"] == "seconds before now"
        assert figure["layout"]["xaxis"]["range"] == [-181.8, 1.8]
        running = next(trace for trace in figure["data"] if trace["name"] == "running")
        assert all(begin < begin + length <= 0 for begin, length in zip(running["base"], running["x"], strict=True))
        assert all(f"run {alone.run_id}" in told for told in running["hovertext"])


def test_each_interval_gets_the_lowest_lane_that_is_free() -> None:
    assert lanes.assign([(0, 4), (1, 2), (3, 5), (2, 3), (4, 6)]) == [0, 1, 1, 1, 0]


def test_there_are_no_more_lanes_than_intervals_at_one_moment() -> None:
    assert set(lanes.assign([(number, number + 3) for number in range(1000)])) == {0, 1, 2}


class Asked:
    """A lab that gives the answers of a recorded run, and remembers what it was asked."""

    def __init__(self, record: Recording, home: Path) -> None:
        self.api = self
        self.lab = SimpleNamespace(state=State(home))
        self.workers: dict[str, Living] = {}
        self.tried: list[str] = []
        self.looks = 0
        self._record = record

    def task_instances(self, _dag_id: str, _run_id: str) -> list[Mapping[str, Any]]:
        return list({row["task_id"]: row for row in self._record.tries}.values())

    def tries(self, _dag_id: str, _run_id: str, task_id: str, _map_index: int) -> list[Mapping[str, Any]]:
        self.tried.append(task_id)
        return [row for row in self._record.tries if row["task_id"] == task_id]

    def events(self, _dag_id: str, _run_id: str, *kinds: str) -> list[Mapping[str, Any]]:
        self.looks += 1
        return [event for event in self._record.events if event["event"] in kinds]

    def living(self) -> dict[str, Living]:
        return self.workers


class TestRecording:
    @pytest.mark.parametrize(("name", "tried", "looks"), [("four_at_once", [], 1), ("lost_worker", ["count"], 1), ("deferral", [], 2)])
    def test_tries_and_events_are_asked_for_where_the_listing_of_tasks_does_not_say_it_all(
        self, name: str, tried: list[str], looks: int, tmp_path: Path
    ) -> None:
        record = recorded(name)
        asked = Asked(record, tmp_path)

        found = recording.record(cast("Cluster", asked), record.run)

        assert (asked.tried, asked.looks) == (tried, looks)
        assert (found.tries, found.events) == (record.tries, record.events)

    def test_workers_that_were_started_after_the_run_are_none_of_it(self, tmp_path: Path) -> None:
        record = recorded("four_at_once")
        asked = Asked(record, tmp_path)
        end = spans.timeline(record).end
        asked.workers = {"old": Living(4, started=end - 100), "new": Living(4, started=end + 1)}

        assert recording.record(cast("Cluster", asked), record.run).slots == {"old": 4}


class TestTrace:
    def events(self, name: str, phase: str) -> list[dict[str, Any]]:
        return [event for event in trace.chrome(timeline(name))["traceEvents"] if event["ph"] == phase]

    @pytest.mark.parametrize("name", [path.stem for path in RECORDINGS.iterdir()])
    def test_processes_and_threads_are_numbers_with_names(self, name: str) -> None:
        events = trace.chrome(timeline(name))["traceEvents"]

        assert all(type(event[field]) is int for event in events for field in ("pid", "tid"))
        assert all(type(event["ts"]) is int for event in events if event["ph"] != "M")
        named = {(event["name"], event["pid"], event["tid"]) for event in events if event["ph"] == "M"}
        assert all({("process_name", e["pid"], 0), ("thread_name", e["pid"], e["tid"])} <= named for e in events if e["ph"] == "X")

    def test_slices_of_a_track_do_not_overlap(self) -> None:
        for name in ("four_at_once", "deferral"):
            tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
            for event in self.events(name, "X"):
                tracks.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
            assert all(
                first[1] <= second[0] for own in tracks.values() for first, second in zip(sorted(own), sorted(own)[1:], strict=False)
            )

    def test_an_arrow_leads_from_the_slice_of_a_lost_try_to_that_of_the_next_one(self) -> None:
        first, second = self.events("lost_worker", "X")
        (out,), (into,) = self.events("lost_worker", "s"), self.events("lost_worker", "f")

        assert (out["id"], out["name"], out["cat"]) == (into["id"], into["name"], into["cat"])
        assert first["ts"] <= out["ts"] < first["ts"] + first["dur"]
        assert into["ts"] == second["ts"]

    def test_faults_are_instants(self) -> None:
        assert [event["name"] for event in self.events("lost_worker", "i")] == ["kill worker-default", "worker lost (1 task)"]

    def test_the_depth_of_a_queue_is_counted(self) -> None:
        depths = [(event["name"], event["args"]["tasks"]) for event in self.events("four_at_once", "C")]

        assert depths == [("waiting on default", number) for number in (4, 3, 2, 1, 0)]


class TestLayout:
    def test_labels_of_marks_that_are_close_stand_in_rows_of_their_own(self) -> None:
        found = replace(many(100), marks=[Mark(10.0, "kill a"), Mark(10.1, "kill b"), Mark(20.0, "kill c")])

        assert layout.label_rows(found) == [0, 1, 0]

    def test_a_label_near_the_end_stands_left_of_its_mark(self) -> None:
        found = replace(many(100), marks=[Mark(25.0, "kill a")])

        assert layout.is_late(found, found.marks[0])

    def test_marks_without_room_for_a_label_have_none(self) -> None:
        found = replace(many(100), marks=[Mark(10.0, "kill a")] * 50)

        assert [row is None for row in layout.label_rows(found)] == [False] * layout.LABELS + [True] * (50 - layout.LABELS)

    def test_nothing_lies_over_another_thing(self) -> None:
        found = timeline("deferral")
        places = layout.layout(found).places

        assert set(places) == set(found.spans)
        assert all(
            one.end is not None and other.end is not None and (one.end <= other.start or other.end <= one.start)
            for one in found.spans
            for other in found.spans
            if one is not other
            and one.kind != "waiting" != other.kind
            and abs(places[one].middle - places[other].middle) < places[one].height
        )


class TestPage:
    @pytest.mark.parametrize("name", [path.stem for path in RECORDINGS.iterdir()])
    def test_plotly_knows_all_that_a_figure_says(self, name: str) -> None:
        plotly.graph_objects.Figure(page.figure(timeline(name)))

    def test_there_is_a_bar_for_each_span(self) -> None:
        found = timeline("deferral")
        bars = {trace["name"]: len(trace["x"]) for trace in page.figure(found)["data"] if trace["type"] == "bar"}

        assert bars == Counter(span.kind for span in found.spans)

    def test_a_lost_try_is_crossed_and_tied_to_the_next_one(self) -> None:
        data = {trace["name"]: trace for trace in page.figure(timeline("lost_worker"))["data"]}

        assert data["running"]["marker"]["pattern"]["shape"] == ["x", ""]
        assert len(data["lost or failed"]["x"]) == 1
        assert data["retries"]["x"] == [5.5959, 9.4994, None]
        assert data["marks"]["text"] == ["kill worker-default", "worker lost (1 task)"]

    def test_hovering_shows_task_try_queue_worker_and_times(self) -> None:
        told = next(trace for trace in page.figure(timeline("lost_worker"))["data"] if trace["name"] == "running")["hovertext"][0]

        assert told == (
            "<b>count</b><br>try 1 · ran 2.9 s<br>lost<br>queue default · worker worker-default<br>"
            "12:08:00 UTC (+2.7 s) to 12:08:03 UTC (+5.6 s)"
        )

    def test_the_page_holds_all_it_needs_and_takes_less_than_5_mb(self) -> None:
        text = page.page(many(1000))

        assert len(text.encode()) < 5_000_000
        assert "src=" not in text.split('id="plotly"')[0]
        assert "http:" not in text
        assert "https:" not in text

    def test_a_name_of_the_users_is_text_and_no_markup(self) -> None:
        found = many(1, name="</script><script>alert(1)</script>")

        text = page.page(found)

        assert "<script>alert" not in text
        assert "</script><script>" not in text
        assert "&lt;/script&gt;" in page.figure(found)["data"][2]["hovertext"][0]

    def test_tasks_beyond_the_palette_share_a_colour(self) -> None:
        found = many(20)

        assert Counter(page.colours(found).values())[page.OTHERS] == 20 - len(page.COLOURS)

    def test_lanes_of_what_has_no_slots_are_thinner_where_there_are_many(self) -> None:
        def height(count: int) -> float:
            return float(page.figure(many(count, worker=None, kind="waiting", end=None))["layout"]["height"])

        assert height(1) < height(8) < height(50) == height(1000)


def many(count: int, **changes: Any) -> Timeline:
    """A run of tasks of a second, four at a time."""
    made = [span(number, **changes) for number in range(count)]
    return Timeline("dag", "run", "success", 0.0, count / 4 + 1.0, made, (), {"w": 4})


def span(number: int, **changes: Any) -> Span:
    given: Mapping[str, Any] = {
        "kind": "running",
        "name": f"task_{number}",
        "task_id": f"task_{number}",
        "map_index": -1,
        "try_number": 1,
        "queue": "default",
        "worker": "w",
        "slot": None if changes.get("kind", "running") != "running" else number % 4 + 1,
        "start": number / 4,
        "end": number / 4 + 1.0,
        "state": "success",
    }
    return Span(**{**given, **changes})
