"""The packages that a project's DAGs need, compared with those that are installed.

A checkout's `lab` script installs them; the environment of an installed package is its user's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import roots

VARIABLE = "LAB_REQUIREMENTS"
FILE = "requirements.txt"


def warnings(project: Path, environ: Mapping[str, str]) -> list[str]:
    """Return a sentence where packages that the project's requirements name are missing, none where all are there."""
    path = project / (environ.get(VARIABLE) or FILE)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return [f"{VARIABLE}={environ[VARIABLE]} is not a file; name one or unset it."] if environ.get(VARIABLE) else []
    except (OSError, UnicodeDecodeError) as error:
        return [f"cannot read {path}: {error}; fix the file."]
    lacking = list(unmet(lines))
    if not lacking:
        return []
    how = f"{typed()} setup" if roots.checkout() else f"{sys.executable} -m pip install -r {path}"
    return [f"{path} asks for what is not installed: {', '.join(lacking)}; run `{how}`, which says why if it cannot be had."]


def unmet(lines: list[str]) -> Iterator[str]:
    """Yield each requirement that the installed packages do not meet. Options, paths and addresses without a name are not looked at."""
    from packaging.requirements import InvalidRequirement, Requirement  # Most projects have none.

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
