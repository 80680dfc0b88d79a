"""`python -m celery_lab`: the launcher's quick way in, and the command line's."""

from __future__ import annotations

import os
import sys

from celery_lab.errors import LabError


def main(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    try:
        if arguments[:1] == ["exec"]:
            # Stands before every process: it must not pay for the command line's imports.
            from celery_lab import launcher

            return launcher.main(arguments[1:], os.environ)
        if arguments[:1] == ["foreground"]:
            from celery_lab import foreground

            return foreground.main(arguments[1:], os.environ)
        from celery_lab import cli

        return cli.main(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
