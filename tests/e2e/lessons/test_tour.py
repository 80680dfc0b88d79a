"""The tour through the lab, in a terminal and without one."""

from __future__ import annotations

import re

from airflow_celery_lab.testing import ThrowawayLab
from airflow_celery_lab.testing.background import pids
from airflow_celery_lab.testing.terminal import CTRL_C, CTRL_D, terminal


def test_the_tour_goes_through_all_its_steps_and_leaves_the_lab_as_it_was(one_worker: ThrowawayLab) -> None:
    cluster = one_worker.cluster
    before, known = pids(cluster), set(cluster.api.dag_ids())

    told = one_worker.command("tour", "--restart", "--yes", timeout=240).stdout

    shown = re.findall(r"^Step (\d) of 8: .*$|^That is [abc]: (.*)\.$", told, flags=re.MULTILINE)
    assert [number or answer for number, answer in shown] == [
        *("1", "10, one for each slot"),
        *("2", "all at the same time"),
        *("3", "worker-high-cpu, which listens to high_cpu"),
        *("4", "they wait in the queue"),
        *("5", "some of those that still wait in the queue"),
        *("6", "it starts again from the beginning, as a second try"),
        *("7", "more than there are slots, up to all 12"),
        *("8", "by a bar of waiting before the bar of the task"),
    ], told
    assert f"{cluster.settings.url('flower')}/tasks" in told
    after = pids(cluster)
    assert {name for name in after if after[name] != before.get(name)} == {"worker-default"}, "the sixth step kills it"
    assert set(after) == set(before)
    assert set(cluster.api.dag_ids()) == known
    # This handle's own connections may be to a Redis that an earlier test has killed: its first look may fail.
    cluster.wait_until_ready(60)
    now = cluster.status(details=False)
    assert [queue.name for queue in now.queues if queue.waiting] == []
    assert one_worker.command("tour", "--list").stdout.splitlines()[-1] == "8  done  Who ran what, and when"


def test_the_tour_bears_typing_errors_in_a_narrow_terminal_and_is_left_and_resumed(one_worker: ThrowawayLab) -> None:
    cluster = one_worker.cluster
    before, known = pids(cluster), set(cluster.api.dag_ids())
    words = [*one_worker.program, "tour"]

    with terminal([*words, "--restart"], one_worker.project, one_worker.environ, columns=40) as shown:
        for prompt, mistake, help_, right in (
            ("Your prediction, a to c (Enter: none):", "six", "Type a, b or c,", "b"),
            ("Enter runs it, or type it (q leaves):", "./lab stats", "other commands", f"{one_worker.program[0]} status"),
            ("Enter: on to step 2 (q leaves):", "yes", "Press Enter to go on", ""),
        ):
            shown.until(prompt)
            shown.type(f"{mistake}\n")
            shown.until(help_)
            shown.until(prompt)
            shown.type(f"{right}\n")
        shown.until("Step 2 of 8")
        shown.until("(Enter: none):")
        shown.type(CTRL_D)
        assert shown.end() == 0
    assert "tour` goes on with step 2" in " ".join(shown.text.split())
    # Addresses and the command's name stay in one piece, and what was typed stands behind its prompt.
    whole = ("http", one_worker.program[0], "): ")
    assert [line for line in shown.text.splitlines() if len(line) > 40 and not any(piece in line for piece in whole)] == []

    with terminal([*words, "--from", "5"], one_worker.project, one_worker.environ, columns=40) as shown:
        shown.until("(Enter: none):")
        shown.type("b\n")
        shown.until("(q leaves):")
        shown.type("\n")
        shown.until("+ worker-default-2")
        shown.type(CTRL_C)
        assert shown.end() == 130
    assert "Traceback" not in shown.text
    assert "goes on with step 5" in " ".join(shown.text.split())
    assert (pids(cluster), set(cluster.api.dag_ids())) == (before, known)

    with terminal(words, one_worker.project, one_worker.environ, columns=40) as shown:
        shown.until("Step 5 of 8")
        shown.until("(Enter: none):")
        shown.type("q\n")
        assert shown.end() == 0
    assert set(cluster.api.dag_ids()) == known
