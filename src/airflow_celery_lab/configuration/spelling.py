"""Keys of Airflow's that were mistyped: Airflow ignores them without a word."""

from __future__ import annotations

import ast
import difflib
import re
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_celery_lab.configuration.overrides import VARIANTS, Given

#: Airflow reads capitals only.
KEY = re.compile(r"AIRFLOW__(?P<section>.+?)__(?P<option>.+)", re.IGNORECASE)
#: How alike two names are of which one is a slip of the other's: one letter of ten is wrong, or two of twenty. A key of a
#: plugin's own, or one of an older release that Airflow still understands, resembles none so much.
ALIKE = 0.9


def mistyped(given: Mapping[str, Given], packages: Path | None = None) -> Iterator[str]:
    """Yield a sentence for each key of `given` that is no option of the installed Airflow's, and resembles one.

    The options are those that Airflow and its providers list in `packages`, by default this environment's.
    """
    wanted = [name for name in given if KEY.fullmatch(name)]
    if not wanted:
        return
    known = {name + variant for name in _known(packages or Path(sysconfig.get_path("purelib"))) for variant in VARIANTS}
    for name in wanted:
        if name not in known and (close := difflib.get_close_matches(name.upper(), known, n=1, cutoff=ALIKE)):
            yield f"{name} ({given[name].where}) is no option of Airflow's, and has no effect; did you mean {close[0]}?"


def _known(packages: Path) -> set[str]:
    """Return all options, as variables."""
    # Airflow's own list; to import Airflow takes a second, and to read this a twentieth.
    sections: list[Mapping[str, Any]] = [_yaml(packages / "airflow/config_templates/config.yml")]
    sections += [_provider(path) for path in (packages / "airflow/providers").rglob("get_provider_info.py")]
    return {
        f"AIRFLOW__{section}__{option}".upper()
        for found in sections
        for section, described in found.items()
        for option in described.get("options") or ()
    }


def _yaml(path: Path) -> dict[str, Any]:
    import yaml  # Most commands meet no key of Airflow's.

    with suppress(OSError, yaml.YAMLError):
        return dict(yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506  # Both are safe.
    return {}


def _provider(path: Path) -> dict[str, Any]:
    """Return the configuration that a provider describes, which is a literal; importing it would import Airflow."""
    with suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Return) and node.value is not None:
                return dict(ast.literal_eval(node.value).get("config") or {})
    return {}
