"""A Python environment with one release of Airflow, in which the lab's own command does the work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Any, NamedTuple

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import roots
from airflow_celery_lab.errors import ReleaseError

RELEASE = re.compile(r"\d+\.\d+")
#: Set for the environment that this process runs in, and not for another one.
OWN = ("LAB_AIRFLOW", "LAB_ENVIRONMENT", "LAB_NEWER")
#: pytest's exit statuses that are an answer: all passed, some failed, there are none.
ANSWERS = (0, 1, 5)
#: Lines of what an environment has printed, where it could not do its work.
WORDS = 15


class Installation(NamedTuple):
    """A Python environment, and how to run the lab's command in it."""

    name: str  #: as it was typed
    command: Sequence[str]
    environ: Mapping[str, str]

    def set_up(self) -> None:
        """Make the environment where it is missing.

        Raises:
            ReleaseError: it cannot be made, or is none with the lab; what is printed says why.

        """
        if self._run(["setup"], stdout=subprocess.DEVNULL):
            raise ReleaseError(f"{self.name} cannot be used, see above; correct that, or name another release or environment.")

    def import_dags(self) -> dict[str, Any]:
        """Return what this release makes of the project's DAG files, as `inside_airflow.dag_import` has it.

        Raises:
            ReleaseError: it could not do that.

        """
        with _answer() as answer, TemporaryFile() as output:
            if self._run(["import-dags", str(answer)], stdout=output, stderr=output):
                output.seek(0)
                words = output.read().decode(errors="replace").splitlines()[-WORDS:]
                print(*words, sep="\n", file=sys.stderr)
                raise ReleaseError(f"{self.name} could not import the DAG files, see its last words above; correct that, and try again.")
            return _read(answer)

    def test(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Run the project's tests, print on stderr, and return how they ended, as `testing.outcomes` has it.

        Raises:
            ReleaseError: pytest could not run them.

        """
        own = ["-p", "airflow_celery_lab.testing.outcomes", "--continue-on-collection-errors"]
        with _answer() as answer:
            status = self._run(["test", *own, f"--lab-outcomes={answer}", *arguments], stdout=sys.stderr)
            if status not in ANSWERS:
                raise ReleaseError(
                    f"the tests did not run to their end on {self.name} (status {status}), see above; correct that, and try again."
                )
            return _read(answer)

    def _run(self, arguments: Sequence[str], *, stdout: int | IO[Any], stderr: IO[Any] | None = None) -> int:
        """Run a command of the lab, and return its exit status. Ctrl-C reaches it too, and its end is waited for."""
        process = subprocess.Popen([*self.command, *arguments], env=dict(self.environ), stdout=stdout, stderr=stderr)
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def find(name: str, environ: Mapping[str, str]) -> Installation:
    """Return the environment of a release such as `3.2`, which a checkout has, or the one in a folder.

    Raises:
        ReleaseError: `name` is neither.

    """
    base = {variable: value for variable, value in environ.items() if variable not in OWN}
    folder = Path(os.path.abspath(os.path.expanduser(name)))
    python = folder / "bin" / "python"
    if os.access(python, os.X_OK):
        return Installation(name, [str(python), "-m", "airflow_celery_lab"], base)
    if not RELEASE.fullmatch(name):
        raise ReleaseError(
            f"{name} is neither a release, such as 3.2, nor a folder with a Python environment in it (there is no {python}); name one.",
            path=folder,
        )
    checkout = roots.checkout()
    if checkout is None:
        raise ReleaseError(
            f"only a checkout makes an environment for a release such as {name}; make one for each release, install Airflow, this package "
            f"and pytest there, and name their folders: `{typed()} compare FOLDER FOLDER`."
        )
    return Installation(name, [str(checkout / "lab")], {**base, "LAB_AIRFLOW": name})


@contextmanager
def _answer() -> Iterator[Path]:
    """Give a file for an answer: what DAG files and tests print goes where they want."""
    with NamedTemporaryFile(prefix="lab-", suffix=".json") as file:
        yield Path(file.name)


def _read(answer: Path) -> dict[str, Any]:
    return dict(json.loads(answer.read_text(encoding="utf-8")))
