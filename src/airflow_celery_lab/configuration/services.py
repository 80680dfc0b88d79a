"""What the lab knows of each kind of process: what it needs, how it stops, which queues it serves."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from airflow_celery_lab.command import NAME, typed
from airflow_celery_lab.configuration import ranges
from airflow_celery_lab.configuration.ranges import Range
from airflow_celery_lab.configuration.suggestion import suggest
from airflow_celery_lab.errors import ProcfileError

#: For a worker line that does not name it (`[celery] worker_concurrency` in config/airflow.cfg).
DEFAULT_CONCURRENCY = 4

#: What of a worker's options the lab reads, with an example of each value.
WORKER_OPTIONS = {"--queues": "default", "--concurrency": "4", "--autoscale": "8,2"}
#: Letters of the shortest beginning that Airflow takes for one of them.
SHORTEST = len("--q")

#: Components that Airflow's health endpoint reports, by the `airflow` subcommand that runs them.
COMPONENTS = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
#: The lab's own programs: three for a Procfile, and two that commands start.
AUTOSCALE, FORKSERVER, GATEWAY, LINKS = "autoscale", "forkserver", "gateway", "links"
#: What speaks for a machine that has joined another one's lab.
PRESENCE = "presence"
#: What of a worker's line comes before its options.
WORKER_COMMAND = ("airflow", "celery", "worker")
#: The launcher in a line: a checkout's script, or the console script that comes with the package.
LAUNCHERS = ("lab", NAME)
PROGRAMS = ("postgres", "redis", "airflow", "celery", AUTOSCALE, FORKSERVER, GATEWAY, LINKS, PRESENCE)

#: What the lab sets of its servers, and where its processes look for them.
SERVER_OPTIONS = {
    "postgres": (
        *("-D", "-h", "-i", "-k", "-N", "-p"),
        *("config_file", "data_directory", "hba_file", "listen_addresses", "max_connections", "port", "unix_socket_directories"),
    ),
    "redis": ("bind", "dir", "include", "maxclients", "port", "requirepass", "unixsocket"),
}

#: The characters that need no quoting; Celery itself takes any name that the broker takes.
QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,128}")


#: The stages of a stop; what is in one is asked to end when what is in those before it has ended.
FIRST, AFTER_WORKERS, LAST = STAGES = (0, 1, 2)


class Service(NamedTuple):
    """One process as its command line describes it."""

    kind: str  #: postgres, redis, forkserver, worker, flower, autoscaler, gateway, links, presence, a key of COMPONENTS, other, or own: without the launcher
    needs: frozenset[str]  #: of "postgres", "redis", "schema"
    stop_signal: signal.Signals
    stage: int  #: of a stop: FIRST, or when those have ended that need it while they stop
    queues: tuple[str, ...]  #: that a worker's line names; without any it is Airflow's default queue
    concurrency: int  #: pool slots that a worker's line names, else 0: without any it is `[celery] worker_concurrency`
    ranges: tuple[Range, ...] = ()  #: of the lines that an autoscaler scales


def describe(command: Sequence[str]) -> Service:
    """Return the service behind the words after `lab exec`.

    Raises:
        ProcfileError: the words make no sense.

    """
    if not command:
        raise ProcfileError(f"`{typed()} exec` needs a command; write for example `{typed()} exec airflow scheduler`.")
    program, rest = command[0], list(command[1:])
    if program.rpartition("/")[2] in LAUNCHERS and rest[:1] == [AUTOSCALE]:
        program, rest = AUTOSCALE, rest[1:]
    _refuse_options_of_the_lab(program, rest)
    if program == "postgres":
        # SIGTERM would be the smart shutdown, which waits for clients; SIGINT is the fast one.
        return _service("postgres", stop_signal=signal.SIGINT, stage=LAST)
    if program in {"redis", LINKS}:
        return _service(program, stage=LAST)
    if program == "airflow" and rest[:2] == ["celery", "worker"]:
        queues, concurrency = _worker_options(rest[2:])
        return _service("worker", "postgres", "redis", "schema", queues=queues, concurrency=concurrency)
    if program == "airflow" and rest[:1] and rest[0] in COMPONENTS:
        # A task that ends while its worker stops tells the api-server so.
        return _service(rest[0], "postgres", "schema", stage=AFTER_WORKERS if rest[0] == "api-server" else FIRST)
    if (program == "celery" and "flower" in rest) or (program == "airflow" and rest[:2] == ["celery", "flower"]):
        return _service("flower", "redis")
    if program == AUTOSCALE:
        return _service("autoscaler", "postgres", "redis", "schema")._replace(ranges=ranges.parse(rest))
    if program in {FORKSERVER, GATEWAY}:
        return _without_options(program, rest)
    return _service(PRESENCE, stage=LAST) if program == PRESENCE else _other(program)


def _without_options(program: str, words: Sequence[str]) -> Service:
    if words:
        raise ProcfileError(f"`{program}` takes no options, and {words[0]!r} is one; remove it.")
    return _service(program)


def _other(program: str) -> Service:
    if program not in PROGRAMS and (hint := suggest(program, PROGRAMS, "")):
        raise ProcfileError(f"there is no program {program!r} to run; {hint}")
    return _service("other", "postgres", "redis", "schema") if program in PROGRAMS else _service("other")


def without_launcher() -> Service:
    """Return the service behind a command of the user's own that does not go through the launcher."""
    return _service("own")


def _service(
    kind: str,
    *needs: str,
    stop_signal: signal.Signals = signal.SIGTERM,
    stage: int = FIRST,
    queues: tuple[str, ...] = (),
    concurrency: int = 0,
) -> Service:
    return Service(kind, frozenset(needs), stop_signal, stage, queues, concurrency)


def _refuse_options_of_the_lab(program: str, words: Sequence[str]) -> None:
    """Refuse what the lab must know of its servers; all other options of theirs are passed on."""
    for word in words:
        # `-c port=1`, `-cport=1`, `--port=1`, `--port 1`; else a letter, whose value may follow it at once.
        long = word.removeprefix("--") if word.startswith("--") else word.removeprefix("-c")
        name = word[:2] if long.startswith("-") else long.partition("=")[0].replace("-", "_")
        if name in SERVER_OPTIONS.get(program, ()):
            raise ProcfileError(
                f"`{program}` cannot have {name!r} in its line: the lab sets it, by its settings and the Procfile; remove it."
            )


def _worker_options(words: Sequence[str]) -> tuple[tuple[str, ...], int]:
    queues: tuple[str, ...] = ()
    concurrency = most = 0
    for meant, option, value in options(words):
        if meant == "--queues":
            queues = _queues(option, value)
        elif meant == "--concurrency":
            concurrency = _slots(option, value)
        elif meant == "--autoscale":  # `most,least`
            most = _slots(option, value.partition(",")[0])
    return queues, most or concurrency


def options(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield each option of a worker: which of WORKER_OPTIONS it is, how it is written there, and its value; of any other word, the word.

    Raises:
        ProcfileError: an option makes no sense.

    """
    pending = list(words)
    while pending:
        word = pending.pop(0)
        option, equals, value = word.partition("=")
        if re.match("-[qca].", option):  # `-q` and its value in one word.
            option, equals, value = option[:2], "=", option[2:] + equals + value
        if option == "--pool" or option.startswith("-P"):
            raise ProcfileError(f"Airflow's worker has no option {option}; set AIRFLOW__CELERY__POOL in .env, or before the command.")
        meant = _meant(option)
        if meant is None:
            yield "", word, ""
            continue
        if not equals:
            if not pending or pending[0].startswith("-"):
                raise ProcfileError(f"{option} of a worker needs a value; write for example `{option} {WORKER_OPTIONS[meant]}`.")
            value = pending.pop(0)
        yield meant, option, value


def _queues(option: str, value: str) -> tuple[str, ...]:
    for queue in value.split(","):
        if not QUEUE.fullmatch(queue):
            raise ProcfileError(
                f"{queue!r} is not a queue name in `{option} {value}`; write names of letters, digits, `_`, `-` and `.` with a comma and no space between them."
            )
    return tuple(value.split(","))


def _slots(option: str, value: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", value):
        raise ProcfileError(f"`{option} {value}` is not a number of pool slots; write a whole number from 1.")
    return int(value)


def _meant(option: str) -> str | None:
    """Return which of WORKER_OPTIONS an option is; like Airflow, take the beginning of a long one for it."""
    if re.fullmatch("-[qca]", option):
        return next(name for name in WORKER_OPTIONS if name[2] == option[1])
    return next((name for name in WORKER_OPTIONS if name.startswith(option) and len(option) >= SHORTEST), None)
