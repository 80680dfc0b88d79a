"""Connections, variables and pools that a project wants: `airflow_settings.yaml`, in the shape that Astro's users have."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.configuration.suggestion import suggest
from airflow_celery_lab.errors import SettingsError

FILE, VARIABLE = "airflow_settings.yaml", "LAB_SETTINGS_FILE"
#: `${NAME}` and `${NAME:-default}`; a second `$` before it makes it plain text, as in a compose file.
REFERENCE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z_0-9]*)(?::-([^}]*))?\}")
#: Characters in a name, and the number of a port, at most.
LONGEST, LAST_PORT = 250, 65535


class Entry(NamedTuple):
    """One connection, variable or pool, in Airflow's own words. It may hold secrets."""

    kind: str  #: connection, variable or pool
    name: str
    fields: Mapping[str, Any]

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.kind} {self.name}"

    def digest(self, key: str) -> str:
        """Return a text that is another one when the entry says something else, and tells nothing of its secrets."""
        return hmac.new(key.encode(), json.dumps(self, sort_keys=True).encode(), hashlib.sha256).hexdigest()


class AirflowSettings(NamedTuple):
    """What the file asks for, and a sentence for each part of it that cannot be used."""

    entries: tuple[Entry, ...] = ()
    refused: tuple[str, ...] = ()


class _Kind(NamedTuple):
    name: str
    key: str  #: holds the name of an entry
    checks: Mapping[str, tuple[str, Callable[[Any], Any]]]  #: key in the file to Airflow's word for it, and what checks its value
    required: tuple[str, ...]


def path_of(settings: Settings) -> Path:
    """Return where the file is, or would be."""
    return settings.settings_file or settings.project / FILE


def of(settings: Settings) -> AirflowSettings:
    """Return what the project's file asks for, nothing where there is none.

    A file that cannot be read at all, or that LAB_SETTINGS_FILE names in vain, is refused like a part of it: the lab runs without it.
    """
    path = path_of(settings)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return AirflowSettings(refused=(f"{VARIABLE}={path} is not a file; name one or unset it.",) if settings.settings_file else ())
    except (OSError, UnicodeDecodeError) as error:
        return AirflowSettings(refused=(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}; fix the file.",))
    return parse(text, settings.dotenv, path.name)


def parse(text: str, variables: Mapping[str, str], name: str = FILE) -> AirflowSettings:
    """Return what `text`, the file of that `name`, asks for. `${NAME}` is one of `variables`. What is empty, as in Astro's template, is left out."""
    import yaml  # Launchers, which are small, hardly ever come here.

    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:  # Its own text quotes the line, which may hold a secret.
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        return AirflowSettings(refused=(f"{name}{line} is not YAML: {error.problem}; correct it.",))
    except yaml.YAMLError:
        return AirflowSettings(refused=(f"{name} has a character that YAML does not allow; remove it.",))
    entries: dict[str, Entry] = {}
    refused: list[str] = []
    for found in _entries(document, variables):
        if isinstance(found, str):
            refused.append(f"{name}: {found}")
        elif found.label in entries:
            refused.append(f"{name}: {found.label} stands there twice; remove one of them.")
        else:
            entries[found.label] = found
    return AirflowSettings(tuple(entries.values()), tuple(refused))


def _entries(document: Any, variables: Mapping[str, str]) -> Iterator[Entry | str]:
    """Yield each entry, or the sentence that refuses it."""
    if document is None:
        return
    if not isinstance(document, dict) or not isinstance(document.get("airflow") or {}, dict):
        yield f"it has no `airflow:` with {', '.join(KINDS)} below it; write them there."
        return
    yield from (_unknown(str(key), "", ["airflow"]) for key in document if key != "airflow")
    for section, items in (document.get("airflow") or {}).items():
        if section not in KINDS:
            yield _unknown(str(section), "below `airflow:`", KINDS)
        elif not isinstance(items or [], list):
            yield f"`{section}:` is not a list; begin each of its entries with `- `."
        else:
            for number, item in enumerate(items or [], 1):
                if not isinstance(item, dict):
                    yield f"entry {number} of `{section}:` is not made of `key: value`; write it as {KINDS[section].key}: and so on."
                elif any(value not in (None, "") for value in item.values()):
                    yield _entry(KINDS[section], number, item, variables)


def _entry(kind: _Kind, number: int, item: Mapping[Any, Any], variables: Mapping[str, str]) -> Entry | str:
    where = f"{kind.name} {item[kind.key]}" if item.get(kind.key) else f"{kind.name} number {number}"
    fields: dict[str, Any] = {}
    for key, value in item.items():
        if key not in kind.checks:
            return _unknown(str(key), f"of {where}", kind.checks)
        if value is None:
            continue
        word, check = kind.checks[key]
        try:
            fields[word] = check(_expanded(value, variables))
        except SettingsError as error:
            return f"{key} of {where} {error}"
    for key in (kind.key, *kind.required):
        if fields.get(kind.checks[key][0]) in (None, "") and not ("uri" in fields and key != kind.key):
            return f"{where} has no {key}; add it."
    if "uri" in fields and len(fields) > len({"conn_id", "uri"}):
        return f"{where} has a conn_uri and other keys beside it; write one or the other."
    return Entry(kind.name, str(fields.pop(kind.checks[kind.key][0])), fields)


def _unknown(key: str, where: str, known: Iterable[str]) -> str:
    hint = suggest(key, known, f"known are {', '.join(known)}.")
    return f"there is no key {key!r}{f' {where}' if where else ''}; {hint}"


def _expanded(value: Any, variables: Mapping[str, str]) -> Any:
    """Return `value` with the variables that it names, at any depth.

    Raises:
        SettingsError: there is no such variable.

    """
    if isinstance(value, dict):
        return {key: _expanded(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, variables) for item in value]
    return REFERENCE.sub(lambda match: _variable(match, variables), value) if isinstance(value, str) else value


def _variable(match: re.Match[str], variables: Mapping[str, str]) -> str:
    escaped, name, default = match.groups()
    if escaped:
        return match[0][1:]
    value = variables.get(name)
    if value or (value is not None and default is None):
        return value or ""
    if default is None:
        raise SettingsError(f"names ${{{name}}}, which is not in .env; add it there.", setting=name)
    return str(default)


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        raise SettingsError("is not a text; write one.")
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _name(value: Any) -> str:
    text = _text(value)
    if len(text) > LONGEST:
        raise SettingsError(f"is longer than {LONGEST} characters; shorten it.")
    return text


def _conn_id(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[\w.-]{1,200}", text, flags=re.ASCII):
        raise SettingsError("has other characters than letters, digits, `_`, `-` and `.`, or more than 200; choose another name.")
    return text


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        text = _text(value).strip()
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise SettingsError(f"is not a whole number from {low} to {high}; correct it.")
        return int(text)

    return check


def _extra(value: Any) -> str:
    """Return a JSON object as a text; Astro's users write it as a mapping too."""
    if value == "":
        return ""
    try:
        fields = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise SettingsError("is neither a mapping nor a JSON object; write `key: value` below it.")
    return value if isinstance(value, str) else _json(value)


KINDS = {
    "connections": _Kind(
        "connection",
        "conn_id",
        {
            "conn_id": ("conn_id", _conn_id),
            "conn_type": ("conn_type", _text),
            "conn_host": ("host", _text),
            "conn_schema": ("schema", _text),
            "conn_login": ("login", _text),
            "conn_password": ("password", _text),
            "conn_port": ("port", _whole(0, LAST_PORT)),
            "conn_uri": ("uri", _text),
            "conn_extra": ("extra", _extra),
        },
        ("conn_type",),
    ),
    "pools": _Kind(
        "pool",
        "pool_name",
        {"pool_name": ("name", _name), "pool_slot": ("slots", _whole(-1, 10**9 - 1)), "pool_description": ("description", _text)},
        ("pool_slot",),
    ),
    "variables": _Kind(
        "variable", "variable_name", {"variable_name": ("key", _name), "variable_value": ("value", _value)}, ("variable_value",)
    ),
}
