from __future__ import annotations

import subprocess
import sys

from airflow_celery_lab.configuration.settings import BASE_PORTS
from airflow_celery_lab.testing import ports

#: Tries to take a port that another process has, and one that nobody has.
OTHER = "import sys; from airflow_celery_lab.testing import ports; print(*(ports._reserve(int(port)) for port in sys.argv[1:]))"


def test_a_port_belongs_to_one_process_until_it_ends_also_while_nobody_listens_on_it() -> None:
    offset = ports.free_offset()
    taken = [str(port + offset) for port in BASE_PORTS.values()]
    nobodys = "1"

    def other() -> list[str]:
        return subprocess.run([sys.executable, "-c", OTHER, *taken, nobodys], capture_output=True, text=True, check=True).stdout.split()

    assert other() == ["False"] * len(taken) + ["True"]
    assert other()[-1] == "True", "the one before has ended"
