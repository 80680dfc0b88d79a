from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from .sandbox import Running, Sandbox, until, until_gone

FAMILY = Path(__file__).with_name("family.py")
#: For a shell: there may be a space in the checkout's path.
PYTHON, SHELL_FAMILY = shlex.quote(sys.executable), shlex.join([sys.executable, "-S", str(FAMILY)])

#: Holds the stop signal back in program and child, and tells which of them has it.
WHO_IS_TOLD = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
reading, writing = os.pipe()
if os.fork() == 0:
    os.read(reading, 1)
    print("the child has", sorted(signal.sigpending()), flush=True)
    os._exit(0)
print("ready", flush=True)
print("the program has", signal.sigwait({signal.SIGTERM}).name, flush=True)
os.write(writing, b".")
os.wait()
"""

#: A guard without a launcher, which leaves its program a fifth of a second.
GUARD = """
import os, signal, sys
from airflow_celery_lab.launcher import guard, reaper
stop = guard.Stop(signal.SIGTERM, grace=lambda died: 0.2, blocked=lambda died: False, patience=1)
silent = guard.Observer(*[lambda event: None] * 4)
start = lambda interrupt: reaper.start(lambda report: os.execvp(sys.argv[1], sys.argv[1:]), stop.signal)
sys.exit(guard.run(start, stop, [], silent))
"""


#: The same with a program that has nothing more to do once its child has ended, and half a minute for its end.
ALONE_GUARD = GUARD.replace("0.2, blocked", "30, blocked").replace("patience=1)", "patience=1, ends_alone=True)")
#: Passes the stop signal on to its child and then sleeps, as Airflow's triggerer does.
OVERSLEEPS = """
import os, signal, time
child = os.fork()
if child == 0:
    signal.pause()
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
print("ready", flush=True)
signal.pause()
time.sleep(60)
"""


def start_family(sandbox: Sandbox, *arguments: str) -> tuple[Running, dict[str, int]]:
    """Start a program with descendants of every kind; return its launcher, and all pids by kind."""
    launcher = sandbox.start("family", sys.executable, "-S", str(FAMILY), *arguments)
    return launcher, family_of(launcher)


def family_of(running: Running) -> dict[str, int]:
    output = running.until("program", "child", "own-group", "own-session", "daemon")
    return {kind: int(pid) for kind, pid in re.findall(r"(program|child|own-group|own-session|daemon) (\d+)\.", output)}


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM), ("kill -KILL $$", 128 + signal.SIGKILL)]
)
def test_the_programs_exit_status_is_passed_on(sandbox: Sandbox, script: str, status: int) -> None:
    assert sandbox.start("any", "sh", "-c", script).end() == status


def test_the_stop_signal_reaches_the_program_and_no_child_of_it(sandbox: Sandbox) -> None:
    launcher = sandbox.start("any", sys.executable, "-S", "-c", WHO_IS_TOLD)
    launcher.until("ready")

    os.killpg(launcher.pid, signal.SIGTERM)  # To the whole group, as honcho does.

    assert launcher.end() == 0
    assert launcher.said.splitlines() == ["ready", "the program has SIGTERM", "the child has []"]


def test_a_program_that_waits_for_nothing_any_more_does_not_get_all_of_its_grace(sandbox: Sandbox) -> None:
    bare = sandbox.spawn([sys.executable, "-c", ALONE_GUARD, sys.executable, "-S", "-c", OVERSLEEPS])
    bare.until("ready")
    begin = time.monotonic()

    assert bare.stop() == 128 + signal.SIGKILL
    assert time.monotonic() - begin < 20  # Of 30.


def test_a_program_that_ignores_the_stop_signal_is_killed_after_its_grace(sandbox: Sandbox) -> None:
    bare = sandbox.spawn([sys.executable, "-c", GUARD, sys.executable, "-S", str(FAMILY), "stubborn"])
    family = family_of(bare)
    begin = time.monotonic()

    assert bare.stop() == 128 + signal.SIGKILL
    assert time.monotonic() - begin >= 0.2
    until_gone(family.values())


def test_a_program_that_is_paused_can_be_stopped(sandbox: Sandbox) -> None:
    launcher, family = start_family(sandbox)

    os.kill(family["program"], signal.SIGSTOP)

    assert launcher.stop() == 128 + signal.SIGTERM
    until_gone(family.values())


def test_a_program_that_takes_its_time_to_stop_is_left_to_it(sandbox: Sandbox) -> None:
    launcher = sandbox.start("any", "sh", "-c", 'trap "sleep 0.1; echo finished; exit 3" TERM; echo ready; while :; do sleep 0.01; done')
    launcher.until("ready")

    assert launcher.stop() == 3
    assert "finished" in launcher.output


def test_a_stop_that_comes_at_once_is_not_lost(sandbox: Sandbox) -> None:
    """Ten starts, as each is told to stop at a moment of its own in the few milliseconds until its program runs."""
    for number in range(10):
        name = f"any-{number}"
        launcher = sandbox.start(name, "sh", "-c", "while :; do sleep 1; done")
        until((sandbox.home / "run" / f"{name}.json").exists, "its record", interval=0)

        # Had it been lost, the program would have been killed after its grace.
        assert launcher.stop() in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_no_descendant_outlives_a_stop(sandbox: Sandbox) -> None:
    launcher, family = start_family(sandbox)

    assert launcher.stop() == 128 + signal.SIGTERM
    until_gone(family.values())


def test_no_descendant_outlives_its_program(sandbox: Sandbox) -> None:
    launcher, family = start_family(sandbox)

    os.kill(family["program"], signal.SIGKILL)

    assert launcher.end() == 128 + signal.SIGKILL
    until_gone(family.values())


@pytest.mark.parametrize("arguments", [[], ["stubborn"]], ids=["obedient", "stubborn"])
def test_no_descendant_outlives_a_killed_launcher(sandbox: Sandbox, arguments: list[str]) -> None:
    launcher, family = start_family(sandbox, *arguments)

    launcher.kill()

    until_gone(family.values())


def test_a_program_does_not_outlive_its_guard_and_its_reaper_when_both_are_killed_at_once(sandbox: Sandbox) -> None:
    """As by `pkill -9 -f airflow`, which does not find a worker: Celery gives it another title."""
    launcher, family = start_family(sandbox)
    program = psutil.Process(family["program"])
    reaper = program.parent()
    assert reaper is not None
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (launcher.pid, reaper.pid):
            os.kill(pid, number)

    until_gone([program.pid])
    for kind in family.keys() - {"program"}:  # Whose end is the program's own affair then.
        os.kill(family[kind], signal.SIGKILL)


def test_a_program_whose_launcher_was_killed_may_end_properly(sandbox: Sandbox) -> None:
    launcher = sandbox.start("any", "sh", "-c", 'trap "echo finished; exit" TERM; echo ready; while :; do sleep 0.01; done')
    launcher.until("ready")

    launcher.kill()

    until(lambda: "finished" in launcher.output, "the end of the program")


def test_a_program_does_not_outlive_its_supervisor(sandbox: Sandbox) -> None:
    """The supervisor here is a shell that starts a launcher in a session of its own, as supervisord does."""
    command = f"setsid {PYTHON} -m airflow_celery_lab exec {SHELL_FAMILY} & wait"
    supervisor = sandbox.spawn(["sh", "-c", command], SUPERVISOR_PROCESS_NAME="family")
    family = family_of(supervisor)
    launcher = sandbox.records["family"].pid

    supervisor.kill()

    until_gone([launcher, *family.values()])


def test_a_program_that_does_not_exist_is_named(sandbox: Sandbox) -> None:
    launcher = sandbox.start("mine", "no-such-program")

    assert launcher.end() == 127
    assert launcher.said == "lab: there is no program 'no-such-program' on PATH; correct the line of mine in the Procfile.\n"
