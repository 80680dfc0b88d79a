"""Starts the Postgres and the Redis that are named in the environment as the lab does, and asks both for their version.

Needs neither packages nor network, only this checkout's `src` on the path, so that it can run in the sandbox of a Nix build.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_celery_lab.configuration import lab as labs
from airflow_celery_lab.configuration.environment import DATABASE
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.settings import BASE_PORTS
from airflow_celery_lab.errors import NotReadyError
from airflow_celery_lab.servers import probes
from airflow_celery_lab.wait import wait_until

#: Seconds for a server to start or to stop; a build machine may be busy.
PATIENCE = 60.0


def main() -> int:
    """Print both versions; the exit status is 1 when a server does not start, answer or stop."""
    # Root's Postgres is not root, and gets to nothing below Nix's folder for a build.
    with TemporaryDirectory(dir="/tmp") if os.geteuid() == 0 else TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        offset = next(
            offset
            for offset in random.sample(range(200, 16_000), 100)
            if not any(probes.port_taken("127.0.0.1", port + offset) for port in BASE_PORTS.values())
        )
        environ = {**os.environ, "LAB_HOME": str(folder / "state"), "LAB_PORT_OFFSET": str(offset), "HOME": str(folder)}
        lab = labs.load(environ)
        started = [
            subprocess.Popen([sys.executable, "-m", "airflow_celery_lab", "exec", name], env=environ, stdout=sys.stderr)
            for name in ("postgres", "redis")
        ]

        def give_up(reason: str) -> None:
            if any(process.poll() is not None for process in started):
                raise NotReadyError(f"a server has ended, with its reason above: {reason}")

        try:
            wait_until(lambda: postgres(lab)[0], PATIENCE, "Postgres", on_wait=give_up)
            wait_until(lambda: probes.redis(lab), PATIENCE, "Redis", on_wait=give_up)
            print("Postgres", postgres(lab)[1])
            print(subprocess.check_output([str(lab.settings.redis_server), "--version"], text=True).strip())
        finally:
            for process in started:
                process.terminate()
            statuses = [process.wait(PATIENCE) for process in started]
    return int(any(statuses))


def postgres(lab: Lab) -> tuple[str | None, str]:
    """Return why Postgres does not answer, and its version when it does."""
    done = subprocess.run(
        [str(lab.settings.postgres_bin / "psql") if lab.settings.postgres_bin else "psql", "-XAtc", "SHOW server_version"],
        env={
            "PGHOST": lab.settings.client_host,
            "PGPORT": str(lab.settings.ports.postgres),
            "PGUSER": DATABASE,
            "PGDATABASE": DATABASE,
            "PGPASSWORD": lab.credentials.postgres_password,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stderr.strip() if done.returncode else None), done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
