"""The files of a DAG folder: when each was saved, and which DAG files it concerns. Imports nothing of Airflow's.

What a file imports cannot be known without running it. So a file counts as using a module beside it if it has the
module's name in it as a word: that finds too much at times, which costs one more parse, and misses only a name that is put
together while the file runs. A file of data is used by those in which all words of its name stand, as in `"tables.yaml"`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.state import State

#: How files of data end from which DAGs are made. What tasks write ends otherwise, as a rule, and may be thousands of files.
DATA = (".yaml", ".yml", ".json", ".toml", ".sql")
#: Folders that hold no source of the user's, beside the hidden ones.
SKIPPED = {"__pycache__", "node_modules"}
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Listing:
    """What Airflow makes of the files in the DAG folder; paths are relative to it."""

    read: list[str]  #: for DAGs
    without: list[str]  #: not read: the words that Airflow looks for are not in them (`[core] dag_discovery_safe_mode`)
    ignored: list[str]  #: by .airflowignore


def is_source(name: str) -> bool:
    """Return whether a file is one of Python's; else it is data."""
    return name.endswith(".py")


def saved(folder: Path) -> dict[str, float]:
    """Return when each file of Python or of data below `folder` was saved, in seconds since the epoch, by its relative path."""
    found = {}
    for entry in _files(str(folder)):
        with suppress(OSError):  # It was removed since; the dag-processor asks this, and must not end for it.
            found[os.path.relpath(entry.path, folder)] = entry.stat().st_mtime
    return found


def changed(before: Mapping[str, float], now: Mapping[str, float]) -> set[str]:
    """Return the files that were saved, made or removed between two looks."""
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def users(of: Collection[str], words: Mapping[str, AbstractSet[str]]) -> set[str]:
    """Return the files that use one of those in `of`, by themselves or by another file, and those in `of` as far as they are there.

    `words` has the words of each Python file that is there.
    """
    found, pending = {name for name in of if name in words}, list(of)
    while pending:
        called = _called(pending.pop())
        for name in words:
            if name not in found and called <= words[name]:
                found.add(name)
                pending.append(name)
    return found


def used(by: str, words: Mapping[str, AbstractSet[str]], data: Collection[str] = ()) -> set[str]:
    """Return a file and those that it uses, by itself or by another file; `data` has the files of data that are there."""
    called: dict[AbstractSet[str], list[str]] = {}
    for name in (*words, *data):
        called.setdefault(_called(name), []).append(name)
    found, pending = {by}, [by]
    while pending:
        there = words.get(pending.pop(), frozenset())
        for names in (names for mentioned, names in called.items() if mentioned <= there):
            for name in names:
                if name not in found:
                    found.add(name)
                    pending.append(name)
    return found


def words(folder: Path, names: Iterable[str]) -> dict[str, set[str]]:
    """Return the words of each of the files."""
    found = {}
    for name in names:
        with suppress(OSError):  # It was removed since.
            found[name] = set(WORD.findall((folder / name).read_text(encoding="utf-8", errors="replace")))
    return found


def publish(state: State, listing: Listing) -> None:
    """Write down what Airflow makes of the files, for `listed`."""
    with suppress(OSError):
        files.write(state.dag_listing, json.dumps(asdict(listing)))


def listed(state: State) -> Listing:
    """Return what the dag-processor has last written down."""
    with suppress(OSError, ValueError, TypeError):
        return Listing(**json.loads(state.dag_listing.read_text(encoding="utf-8")))
    return Listing([], [], [])


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:  # A folder may go while it is read.
        for entry in entries:
            with suppress(OSError):
                if entry.name.endswith((".py", *DATA)) and entry.is_file():
                    yield entry
                elif not entry.name.startswith(".") and entry.name not in SKIPPED and entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)


def _called(name: str) -> frozenset[str]:
    """Return the words by which a file is mentioned: a module's name, or the whole name of a file of data."""
    path = PurePosixPath(name)
    if not is_source(name):
        return frozenset(WORD.findall(path.name))
    return frozenset([path.parent.name if path.name == "__init__.py" else path.stem])
