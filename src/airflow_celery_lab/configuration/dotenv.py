"""The variables of a project's `.env`, read as docker compose reads it.

Plain honcho reads the same file in its own way (docs/settings.md says how that differs). The launcher before each
process reads it again here, and this reading counts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_celery_lab.errors import SettingsError

if TYPE_CHECKING:
    from dotenv.parser import Binding

NAME = ".env"


def read(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the `.env` in `folder`, none where there is no such file.

    `${NAME}` and `${NAME:-default}` are those of `environ`, else of the lines above.

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
    return parse(text, environ)


def parse(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in `text`.

    Raises:
        SettingsError: a line is not `NAME=value`.

    """
    # Not at the top: a project without `.env` does not pay for it.
    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise SettingsError(_complaint(binding))
        if binding.key is None:  # A comment, or nothing.
            continue
        if binding.value is None or not re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", binding.key):
            raise SettingsError(_complaint(binding))
        values[binding.key] = binding.value if _is_literal(binding) else _expand(binding.value, {**values, **environ})
    return values


def _is_literal(binding: Binding) -> bool:
    """Return whether the value stands in single quotes, in which nothing is expanded."""
    return binding.original.string.partition("=")[2].lstrip().startswith("'")


def _expand(value: str, variables: Mapping[str, str]) -> str:
    from dotenv.variables import parse_variables

    return "".join(atom.resolve(variables) for atom in parse_variables(value))


def _complaint(binding: Binding) -> str:
    text = binding.original.string.lstrip()
    # The empty lines above belong to it.
    number = binding.original.line + binding.original.string.count("\n", 0, -len(text))
    line = text.splitlines()[0].rstrip()
    value = line.partition("=")[2].lstrip()
    if value[:1] in {'"', "'"} and value[:1] not in value[1:]:
        return f"{NAME} line {number} has an open quote: {line!r}; close it."
    return f"{NAME} line {number} is not NAME=value: {line!r}; write a name of letters, digits and `_`, and its value."
