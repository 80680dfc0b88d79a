"""The packages that a project's DAGs need, compared with those that are installed.

A checkout's `lab` script installs them; the environment of an installed package is its user's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import roots

VARIABLE = "LAB_REQUIREMENTS"
FILE = "requirements.txt"
#: A line that names another file: of requirements, or of constraints.
INCLUDED = re.compile(r"\s*(-r|--requirement|-c|--constraint)[\s=]*([^#]*[^#\s])")


def warnings(project: Path, environ: Mapping[str, str]) -> list[str]:
    """Return a sentence where packages that the project's requirements name are missing, none where all are there."""
    path = project / (environ.get(VARIABLE) or FILE)
    if not path.exists():
        return [f"{VARIABLE}={environ[VARIABLE]} is not a file; name one or unset it."] if environ.get(VARIABLE) else []
    try:
        lacking = list(unmet(line for lines in files(path).values() for line in lines))
    except FileNotFoundError as error:
        return [f"{path} names {error.filename}, which is not there; correct its line `-r`."]
    except (OSError, UnicodeDecodeError) as error:
        return [f"cannot read {path}, or a file that it names: {error}; fix the file."]
    if not lacking:
        return []
    how = f"{typed()} setup" if roots.checkout() else f"{sys.executable} -m pip install -r {path}"
    return [f"{path} asks for what is not installed: {', '.join(lacking)}; run `{how}`, which says why if it cannot be had."]


def files(path: Path, known: Mapping[Path, list[str]] | None = None, *, constraints: bool = False) -> dict[Path, list[str]]:
    """Return the lines of a file of requirements, and of the files that it names with `-r`, and with `-c` where `constraints` are wanted, at any depth.

    As pip has it, a name counts from the folder of the file that it stands in. Addresses are left out.

    Raises:
        OSError: one cannot be read.
        UnicodeDecodeError: one is not UTF-8.

    """
    lines = path.read_text(encoding="utf-8").splitlines()
    found = {**(known or {}), path: lines}
    for line in lines:
        match = INCLUDED.match(line)
        if match is None or "://" in match[2] or not (constraints or "r" in match[1][:3]):
            continue
        if (there := path.parent / match[2]) not in found:
            found = files(there, found, constraints=constraints)
    return found


def unmet(lines: Iterable[str]) -> Iterator[str]:
    """Yield each requirement that the installed packages do not meet. Options, paths and addresses without a name are not looked at."""
    # Most projects have none.
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import InvalidRequirement, Requirement

    for line in lines:
        text = line.partition(" #")[0].partition(" --")[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            if "/" not in text:
                yield text
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            yield text
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            yield f"{text} (there is {there})"
