"""The name of the lab's command, as the user typed it: messages show commands that can be typed again."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

#: Where the name stands, for this process and all that it starts. The `lab` script sets it to its own `$0`.
VARIABLE = "LAB_COMMAND"
#: The console script that comes with the package.
NAME = "airflow-celery-lab"


def typed() -> str:
    """Return `./lab`, `lab`, `airflow-celery-lab` or a path: what the user typed before the first argument."""
    return os.environ.get(VARIABLE) or NAME


def remember(argument: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep the name for `typed`, given this process's `sys.argv[0]`; what a `lab` script has set stays."""
    if environ.get(VARIABLE):
        return
    path = Path(argument)
    if path.name == "__main__.py":
        environ[VARIABLE] = "python -m airflow_celery_lab"
        return
    import shutil  # Milliseconds that a launcher under `./lab` does not spend.

    # The kernel hands a script its whole path, also where the user typed its name alone.
    found = shutil.which(path.name)
    environ[VARIABLE] = path.name if found and Path(found) == path else argument
