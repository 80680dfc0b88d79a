"""The variables of a project's `.env`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from airflow_celery_lab.errors import SettingsError

NAME = ".env"


def read(folder: Path) -> dict[str, str]:
    """Return the variables of the `.env` in `folder`, none where there is no such file.

    Raises:
        SettingsError: it cannot be read, or a line is not `NAME=value`.

    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}; fix the file or remove it.", path=path) from error
    return parse(text, NAME)


def parse(text: str, where: str = NAME) -> dict[str, str]:
    """Return the variables in `text`; `where` is the file's name for messages.

    Reads what honcho reads, but refuses what honcho drops or changes silently.

    Raises:
        SettingsError: a line is not `NAME=value`.

    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z_][A-Za-z_0-9]*)=(.*)", line.strip())
        if match is None:
            raise SettingsError(
                f"{where} line {number} is not NAME=value: {line.strip()!r}; write it without `export` and without spaces around `=`."
            )
        try:
            words = shlex.split(match[2])
        except ValueError as error:
            raise SettingsError(f"{where} line {number} has an open quote: {line.strip()!r}; close it.", setting=match[1]) from error
        if len(words) > 1:
            raise SettingsError(
                f"{where} line {number} has a space in its value: {line.strip()!r}; put the value in quotes.", setting=match[1]
            )
        values[match[1]] = words[0] if words else ""
    return values
