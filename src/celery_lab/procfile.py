"""The Procfile: the one list of processes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from celery_lab import identity, services
from celery_lab.errors import ProcfileError
from celery_lab.services import Service
from celery_lab.settings import PROJECT

#: What honcho takes for a process (`honcho.environ.PROCFILE_LINE`), and that has a command; honcho drops
#: any other line silently.
LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")


class Line(NamedTuple):
    """One process of the Procfile."""

    name: str
    command: str
    service: Service


def read(path: Path = PROJECT / "Procfile") -> list[Line]:
    """Return the lines of the Procfile at `path`.

    Raises:
        ProcfileError: it cannot be read, or a line cannot be used.

    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProcfileError(f"cannot read {path}: {error}; mend the file, or get it back with `git checkout Procfile`.") from error


def parse(text: str) -> list[Line]:
    """Return the processes that `text` names, in its order.

    Raises:
        ProcfileError: a line does not parse, a name stands twice, or a command cannot be meant.

    """
    lines: dict[str, Line] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        where = f"Procfile line {number}"
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(raw)
        if match is None:
            raise ProcfileError(
                f"{where} is not `name: command`, with a name of letters, digits, `_` and `-` from the first column on: {raw.strip()!r}."
            )
        name, command = match[1], match[2].strip()
        if name in lines:
            raise ProcfileError(f"{where} names {name!r} a second time; give each process a name of its own.")
        try:
            lines[name] = Line(name, command, service_of(command))
        except ProcfileError as error:
            raise ProcfileError(f"{where} ({name}): {error}") from error
    if not lines:
        raise ProcfileError("the Procfile names no process; get it back with `git checkout Procfile`.")
    return list(lines.values())


def expected(lines: Sequence[Line], counts: Mapping[str, int] | None = None) -> dict[str, Service]:
    """Return the service of each process by its name; `counts` has those of lines that run more than once.

    Raises:
        ProcfileError: `counts` names no line, or two processes would have one name.

    """
    counts = counts or {}
    if unknown := sorted(set(counts) - {line.name for line in lines}):
        raise ProcfileError(f"there is no process {unknown[0]!r} to scale; the Procfile has {', '.join(line.name for line in lines)}.")
    result: dict[str, Service] = {}
    for line in lines:
        for number in range(1, counts.get(line.name, 1) + 1):
            name = identity.instance_name(line.name, number)
            if name in result:
                raise ProcfileError(f"two processes would be called {name!r}; rename one in the Procfile.")
            result[name] = line.service
    return result


def service_of(command: str) -> Service:
    """Return the service behind a whole command of the Procfile.

    Raises:
        ProcfileError: it cannot be meant.

    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ProcfileError(f"a quote is left open in {command!r}; close it.") from error
    for position, word in enumerate(words[:-1]):
        if word.rpartition("/")[2] == "lab" and words[position + 1] == "exec":
            return services.describe(words[position + 2 :])
    return services.describe(["sh"])  # A process of the user's own, without the launcher.
