"""The part of the script `lab` that a shell would do badly: who uses a Python environment, and what is in it.

An environment is a folder in `.venv.d`, and `.venv` is a link to the one that is in use. Runs on any Python from 3.10 on;
what looks at processes needs an environment's own Python, which has psutil.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import Distribution, distributions
from pathlib import Path

#: Where the script puts the environment's path, for all that it starts; a command line need not show it (macOS).
VARIABLE = "LAB_ENVIRONMENT"
#: What comes with an environment, or is put there by the script.
TOOLS = {"pip", "uv"}


def running(environment: str, link: str) -> int:
    """Return 0 when a process of a lab, or what supervises it, runs in `environment`, else 1.

    Not honcho by itself: it starts each process once, and those count.
    """
    return 0 if any(_is_lab(words) for words in _users(environment, f"{link}/")) else 1


def unused(*environments: str) -> int:
    """Print those of `environments` that no process uses."""
    print("\n".join(environment for environment in environments if not any(_users(environment))))
    return 0


def lock(descriptor: str, link: str) -> int:
    """Take the lock on an open file, which this process shares with the shell that keeps it."""
    try:
        fcntl.flock(int(descriptor), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"lab: waiting for another set-up of {link}", file=sys.stderr)
        fcntl.flock(int(descriptor), fcntl.LOCK_EX)
    except OSError as error:
        print(f"lab: cannot lock a file in {link}.d: {error.strerror}; set LAB_VENV to a folder on another file system.", file=sys.stderr)
        return 14
    return 0


def added(old: str, new: str) -> int:
    """Print what pip needs to install again what the user has added to `old`, and `new` does not have.

    Says on stderr which locked packages the user has replaced by other versions: `new` has the lock's.
    """
    locked = _locked(Path(old) / "lab-stamp" / "requirements.lock")
    # What a project has asked for is asked for anew.
    there = {_name(distribution) for distribution in _installed(new)} | TOOLS | _named(Path(old) / "lab-stamp" / "project.lock")
    for distribution in _installed(old):
        name, version = _name(distribution), distribution.version
        if name not in locked and name not in there:
            print(_requirement(distribution))
        elif version != locked.get(name, version):
            told = f"lab: {name} {version}, which you had installed in place of {locked[name]}, is not kept: requirements.lock counts"
            print(told, file=sys.stderr)
    return 0


def dropped(environment: str) -> int:
    """Print what the project's last requirements brought, and neither the new ones nor the lab's lock ask for."""
    stamp = Path(environment) / "lab-stamp"
    for name in sorted(_named(stamp / "project.lock") - _named(stamp / "project.new") - _locked(stamp / "requirements.lock").keys()):
        print(name)
    return 0


def included(file: str, files: str, contents: str) -> int:
    """Write into `files` which other files the requirements in `file` name, a line each, and into `contents` what is in them."""
    from airflow_celery_lab.configuration import requirements  # `finish` has made it importable.

    _, *others = requirements.files(Path(file), constraints=True)
    Path(files).write_bytes(b"".join(os.fsencode(other) + b"\n" for other in others))
    Path(contents).write_bytes(b"".join(other.read_bytes() for other in others))
    return 0


def said(file: str) -> int:
    """Print as one line what uv has said in `file`: the reason at its end, without the drawing around it."""
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    words = " ".join(re.sub(r"[^\x00-\x7f]", " ", text).split()).removeprefix("error: ")
    print(re.sub(r"^No solution found when resolving dependencies[^:]*: ", "", words))
    return 0


def finish(environment: str, link: str, source: str, libraries: str) -> int:
    """Make the checkout importable in `environment`, load `libraries` there, and let its activation go through `link`."""
    # A .pth line makes the checkout importable, as an editable install would. Another loads the libraries: the
    # loader asks for none twice, and no child inherits anything, as it would a search path.
    # Paths are written as bytes: Python reads such files in the user's encoding, which need not have an é.
    lines = [f"import os, sys; sys.path.append(os.fsdecode({os.fsencode(source)!r}))\n"]
    if paths := [os.fsencode(path) for path in libraries.split(":") if path]:
        lines.append(f"import ctypes, os; list(map(ctypes.CDLL, map(os.fsdecode, {paths})))\n")
    for site in _sites(environment):
        (site / "airflow_celery_lab.pth").write_text("".join(lines))
    # An activated shell outlives the environment: it uses the one that the link leads to.
    there, name = Path(environment), Path(link).name
    for script in (there / "bin").glob("activate*"):
        script.write_bytes(script.read_bytes().replace(os.fsencode(f"{name}.d/{there.name}"), os.fsencode(name)))
    return 0


def switch(environment: str, link: str) -> int:
    """Make `link` lead to `environment`, at one moment; a folder of an older set-up makes way."""
    there, path = Path(environment), Path(link)
    draft = there.with_name(f".link-{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(Path(there.parent.name) / there.name)
    aside = there.with_name(f".before-{os.getpid()}")
    if path.is_dir() and not path.is_symlink():
        path.rename(aside)
    draft.replace(path)
    shutil.rmtree(aside, ignore_errors=True)
    return 0


def _users(environment: str, *more: str) -> Iterator[list[str]]:
    """Yield the command line of each process that has a path in `environment`, or one that begins with `more`."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # It has ended, or is another user's.
            words: list[str] = process.cmdline()
            if any(word.startswith((f"{environment}/", *more)) for word in words) or process.environ().get(VARIABLE) == environment:
                yield words


def _is_lab(words: list[str]) -> bool:
    following = words[words.index("airflow_celery_lab") + 1 :][:1] if "airflow_celery_lab" in words else []
    return following in (["exec"], ["foreground"]) or any(Path(word).name in {"supervisord", "supervisor.supervisord"} for word in words)


def _sites(environment: str) -> list[Path]:
    return list(Path(environment).glob("lib/python3.*/site-packages"))


def _installed(environment: str) -> list[Distribution]:
    found = distributions(path=list(map(str, _sites(environment))))
    # What an interrupted pip leaves behind has no name.
    return sorted((each for each in found if each.read_text("METADATA") or each.read_text("PKG-INFO")), key=_name)


def _name(distribution: Distribution) -> str:
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()


def _locked(lock: Path) -> dict[str, str]:
    """Return the version of each package that a lock has for this machine."""
    from packaging.markers import Marker  # An environment has it: Airflow needs it.

    lines = re.finditer(r"^([a-z0-9-]+)==([^ ]+)(?: ; (.+?))?(?: \\)?$", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {match[1]: match[2] for match in lines if not match[3] or Marker(match[3]).evaluate()}


def _named(file: Path) -> set[str]:
    """Return the names of the packages in what uv has resolved, none where there is no such file."""
    with suppress(OSError):
        return {
            re.sub(r"[-_.]+", "-", name).lower()
            for name in re.findall(r"^([A-Za-z0-9][\w.-]*)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        }
    return set()


def _requirement(distribution: Distribution) -> str:
    """Return a line for pip: the version, or the place that it came from."""
    name, origin = _name(distribution), json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin:
        return f"{name}=={distribution.version}"
    if origin.get("dir_info", {}).get("editable"):
        return f"-e {origin['url']}"
    version = origin.get("vcs_info", {})
    return f"{name} @ {version['vcs']}+{origin['url']}@{version['commit_id']}" if version else f"{name} @ {origin['url']}"


if __name__ == "__main__":
    COMMANDS: list[Callable[..., int]] = [running, unused, lock, added, dropped, included, said, finish, switch]
    sys.exit({command.__name__: command for command in COMMANDS}[sys.argv[1]](*sys.argv[2:]))
