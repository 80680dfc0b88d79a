"""Each task says on which queue it waits; only a worker that listens there takes it."""

from __future__ import annotations

import hashlib

from airflow.sdk import dag, task


@dag(schedule=None, tags=["lab"], default_args={"retries": 2, "retry_delay": 1})
def queue_routing() -> None:
    """Prepare on `default`, compute twice on `high_cpu`, report on `default`."""

    @task
    def prepare() -> list[str]:
        return ["first", "second"]

    @task(queue="high_cpu")
    def compute(salt: str) -> str:
        # Key stretching is work that no cache can shorten: about two seconds of one core.
        return hashlib.pbkdf2_hmac("sha256", b"lab", salt.encode(), 4_000_000).hex()

    @task
    def report(digests: list[str]) -> None:
        for digest in digests:
            print(digest)

    report(compute.expand(salt=prepare()))  # type: ignore[arg-type]  # Airflow passes the values themselves


queue_routing()
