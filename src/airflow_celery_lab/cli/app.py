"""The application, at which commands register, and what they share."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
import typer.core

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.errors import NotReadyError


class Commands(typer.core.TyperGroup):
    """Shows the first sentence of each command's help as a whole, in as many lines as it takes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, (command.help or "").split("\n\n")[0]) for name, command in found if command and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    name="lab",
    cls=Commands,
    help="A whole Airflow CeleryExecutor cluster on one machine, without a container per service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: For commands whose arguments are another program's.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Name = Annotated[str, typer.Argument(help="A process, as `status` names it.")]
Names = Annotated[list[str], typer.Argument(help="Processes, as `status` names them.")]

#: Seconds of silence after which the user is told what is being waited for.
PATIENCE = 10


def say(text: str) -> None:
    """Print a line at once, and in one piece."""
    print(text, flush=True)


def print_json(data: object) -> None:
    """Print what a script reads."""
    print(json.dumps(data, indent=2))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let the end of the terminal, and SIGTERM, end a command as Ctrl-C does: it puts back what it has changed."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def progress(doing: str, tell: Callable[[str], None] = say) -> Callable[[str], None]:
    """Return a function that tells what is being waited for, every PATIENCE seconds at most."""
    start = shown = time.monotonic()

    def show(reason: str) -> None:
        nonlocal shown
        if time.monotonic() - shown > PATIENCE:
            shown = time.monotonic()
            tell(f"lab: still {doing} after {shown - start:.0f} s: {reason}")

    return show


@contextmanager
def last_words(cluster: Cluster, names: Sequence[str] | None = None) -> Iterator[None]:
    """Show the end of the log of each process that has not become ready, of `names` or of all, when the block fails for that."""
    try:
        yield
    except NotReadyError:
        for process in cluster.status(details=False).not_ready:
            if names is None or process.name in names:
                say("\n".join(f"{process.name} | {line}" for line in cluster.supervisor.tail(process.name, 10)))
        raise
