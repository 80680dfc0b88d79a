"""Several hosts on this machine, for tests of labs on more than one: each has its own network, name and processes.

A host is a set of the kernel's namespaces. They have no names and no files: the kernel deletes them, and what lies in
them, with their last process. So nothing is left after the block, also after a failure or a SIGKILL, and the machine's
own network never sees a cable or a byte of them. What hosts share is the disk.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from airflow_celery_lab.wait import wait_until

#: A private network; no other can be met in it.
NETWORK = "10.99.0"
#: The name of a host's network card.
CARD = "eth0"
#: Seconds for a command of the kernel's tools, and for the end of what was killed.
PATIENCE = 10.0
#: What a host of its own consists of; the kernel kills all of its processes with the first one.
NAMESPACES = ("--net", "--uts", "--ipc", "--mount", "--pid")
#: The first process of a host: says when the host is there, and lets the kernel collect what ends and has no parent.
FIRST = 'echo "$1" >/proc/sys/kernel/hostname && ip link set lo up && echo up && exec env --ignore-signal=CHLD sleep infinity'


@dataclass(frozen=True)
class Host:
    """A host that runs."""

    name: str  #: its hostname, too
    address: str
    pid: int  #: of its first process, as this machine counts
    switch: int  #: pid of the first process of the switch, to which its cable goes
    _started: list[subprocess.Popen[str]] = field(default_factory=list, repr=False)

    def run(
        self, command: Sequence[str], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on this host until it ends, and return what it has printed.

        Raises:
            subprocess.TimeoutExpired: it has not ended after `timeout` seconds, and was killed.

        """
        process = self.start(command, cwd=cwd, environ=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill_tree(process)
            raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def start(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        stdout: int | None = subprocess.DEVNULL,
        stderr: int | None = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Start a command on this host, in a session of its own; `signal` reaches it."""
        process = subprocess.Popen(
            ["nsenter", f"--target={self.pid}", *NAMESPACES, *([f"--wd={cwd}"] if cwd else []), *command],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    @staticmethod
    def signal(process: subprocess.Popen[str], number: int) -> None:
        """Send a signal to the command that `start` has started; nsenter, which waits for it, gets none."""
        for child in psutil.Process(process.pid).children():
            child.send_signal(number)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this host, without the first one."""
        own = _namespace(self.pid)
        return [one for one in psutil.process_iter() if own and one.pid != self.pid and _namespace(one.pid) == own]

    def cut(self) -> None:
        """Pull the cable: both ends stay silent from now on, and no connection is closed."""
        self._cable("down")

    def heal(self) -> None:
        """Plug the cable in again, and wait until it carries."""
        self._cable("up")
        wait_until(self._carries, PATIENCE, f"the cable of {self.name}", interval=0.02)

    def kill(self) -> None:
        """Switch the host off: all of its processes are killed at once, and the cable is pulled for good."""
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.pid)
            first.kill()
            first.wait(PATIENCE)
        for process in self._started:
            _kill_tree(process)

    def _carries(self) -> str | None:
        """Return why the cable does not carry anything: the kernel sets both of its ends up a moment after it was told to."""
        ends = _in_network(self.pid, "ip", "link", "show", CARD), _in_network(self.switch, "ip", "-details", "link", "show", self.name)
        return None if "state UP" in ends[0] and "state forwarding" in ends[1] else f"it shows {ends}"

    def _cable(self, state: str) -> None:
        _in_network(self.switch, "ip", "link", "set", self.name, state)


def missing() -> str | None:
    """Return why this machine cannot have hosts, None when it can."""
    if "CI" in os.environ:
        return "CI has no hosts of its own"
    if os.geteuid():
        return "namespaces of the network need root"
    try:
        tried = subprocess.run(
            ["unshare", *NAMESPACES, "--fork", "ip", "link"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"namespaces cannot be made: {error}"
    return f"namespaces cannot be made: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def hosts(*names: str) -> Iterator[tuple[Host, ...]]:
    """Run one host for each name, in one network, until the block ends.

    Raises:
        OSError: the kernel or its tools refuse; `missing` says so before.

    """
    with ExitStack() as stack:
        switch = stack.enter_context(_namespaces("switch"))
        _in_network(switch, "ip", "link", "add", "lan", "type", "bridge")
        _in_network(switch, "ip", "link", "set", "lan", "up")
        yield tuple(stack.enter_context(_host(name, f"{NETWORK}.{number}", switch)) for number, name in enumerate(names, 1))


@contextmanager
def _host(name: str, address: str, switch: int) -> Iterator[Host]:
    with _namespaces(name) as pid:
        _in_network(pid, "ip", "link", "add", CARD, "type", "veth", "peer", "name", name, "netns", str(switch))
        _in_network(pid, "ip", "address", "add", f"{address}/24", "dev", CARD)
        _in_network(pid, "ip", "link", "set", CARD, "up")
        _in_network(switch, "ip", "link", "set", name, "master", "lan")
        host = Host(name, address, pid, switch)
        try:
            host.heal()
            yield host
        finally:
            host.kill()


@contextmanager
def _namespaces(name: str) -> Iterator[int]:
    """Make the namespaces of a host, and yield the pid of its first process; the kernel ends it when this process ends."""
    command = ["setpriv", "--pdeathsig=KILL", "unshare", *NAMESPACES, "--fork", "--kill-child=KILL", "--mount-proc"]
    outer = subprocess.Popen(
        [*command, "sh", "-ec", FIRST, "sh", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert outer.stdout is not None
        assert outer.stderr is not None
        if outer.stdout.readline() != "up\n":
            raise OSError(f"the host {name} has not started: {outer.stderr.read().strip()}")
        yield psutil.Process(outer.pid).children()[0].pid
    finally:
        _kill_tree(outer)


def _in_network(pid: int, *command: str) -> str:
    """Return what a command of the kernel's tools prints in the network of a process; it sees pids as this machine counts them."""
    done = subprocess.run(["nsenter", f"--target={pid}", "--net", *command], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _kill_tree(process: subprocess.Popen[str]) -> None:
    """Kill a process and its descendants, and wait for their end."""
    tree: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
    for one in tree:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait(PATIENCE)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    psutil.wait_procs(tree, timeout=PATIENCE)


def _namespace(pid: int) -> str | None:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115  # it names no file
    return None
