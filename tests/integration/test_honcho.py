from __future__ import annotations

import sys

import psutil

from .sandbox import Running, Sandbox, until, until_gone
from .test_guard import PYTHON, SHELL_FAMILY, family_of

LIVE = "sh -c 'echo ready; while :; do sleep 1; done'"


def start_honcho(sandbox: Sandbox, procfile: str, *arguments: str) -> Running:
    (sandbox.project / "Procfile").write_text(procfile.replace("./lab exec", f"{PYTHON} -m airflow_celery_lab exec"))
    return sandbox.spawn([sys.executable, "-m", "honcho", "-f", "Procfile", "start", *arguments])


def tree_of(running: Running) -> list[int]:
    return [running.pid, *(child.pid for child in psutil.Process(running.pid).children(recursive=True))]


def test_processes_have_the_names_of_their_lines(sandbox: Sandbox) -> None:
    start_honcho(sandbox, f"web: ./lab exec {LIVE}\nworker-a: ./lab exec {LIVE}\n", "-c", "web=1,worker-a=2")

    until(lambda: len(sandbox.records) == 3, "three processes")

    assert set(sandbox.records) == {"web", "worker-a", "worker-a-2"}
    assert {record.supervisor for record in sandbox.records.values()} == {"honcho"}


def test_an_instance_may_not_take_the_name_of_another_line(sandbox: Sandbox) -> None:
    honcho = start_honcho(sandbox, f"web: ./lab exec {LIVE}\nweb-2: ./lab exec {LIVE}\n", "-c", "web=2")

    assert honcho.end() == 11
    assert "lab: two processes would be called 'web-2'; rename one of the lines in the Procfile." in honcho.output


def test_no_process_outlives_a_killed_honcho(sandbox: Sandbox) -> None:
    honcho = start_honcho(sandbox, f"family: ./lab exec {SHELL_FAMILY}\nweb: ./lab exec {LIVE}\n")
    family = family_of(honcho)
    until(lambda: {record.state for record in sandbox.records.values()} == {"running"}, "two processes")
    tree = tree_of(honcho)

    honcho.kill()

    until_gone([*family.values(), *tree])
    assert sandbox.records == {}


def test_one_end_is_the_end_of_all_and_of_every_descendant(sandbox: Sandbox) -> None:
    honcho = start_honcho(
        sandbox, f"family: ./lab exec {SHELL_FAMILY}\nweb: ./lab exec sh -c 'until [ -e go ]; do sleep 0.01; done; exit 3'\n"
    )
    family = family_of(honcho)

    (sandbox.project / "go").touch()

    assert honcho.end() == 3
    until_gone(family.values())
    assert "web.1 stopped (rc=3)" in honcho.output


def test_redis_outlives_those_that_may_need_it_while_they_stop(sandbox: Sandbox) -> None:
    slow = "sh -c 'trap \"sleep 0.2; echo finished; exit\" TERM; echo ready; while :; do sleep 0.01; done'"
    honcho = start_honcho(sandbox, f"redis: ./lab exec redis\nslow: ./lab exec {slow}\n")
    honcho.until("ready")
    until(lambda: {record.state for record in sandbox.records.values()} == {"running"} and len(sandbox.records) == 2, "both processes")

    honcho.stop()

    output = honcho.output
    assert output.index("finished") < output.index("is now ready to exit")
    assert output.index("slow.1 stopped") < output.index("redis.1 stopped")
