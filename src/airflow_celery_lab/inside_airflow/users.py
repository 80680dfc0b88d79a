"""Configuration that the user has written as a Python dictionary, for the lab's own to build on."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple


class Users(NamedTuple):
    """A dictionary of the user's, and the module that it stands in."""

    key: str
    module: ModuleType
    value: dict[str, Any]


def module_of(variable: str, key: str) -> Users | None:
    """Return the dictionary whose path stands in the environment's `variable`, None where there is none; `key` is the user's.

    Ends the process with a sentence when it cannot be imported.
    """
    if not (path := os.environ.get(variable)):
        return None
    name, _, attribute = path.rpartition(".")
    try:
        module = import_module(name)
        value = getattr(module, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SystemExit(f"lab: {key}={path} cannot be imported: {error}; correct it, or put its folder on PYTHONPATH in .env.") from error
    if not isinstance(value, dict):
        raise SystemExit(f"lab: {key}={path} is no dictionary; name one.")
    return Users(key, module, value)
