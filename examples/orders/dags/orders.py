"""Orders of a day: extracted with their prices, joined where there is much CPU, and loaded into a database."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag, task

#: What the shop's systems would answer; the last line that a BashOperator prints is its XCom.
ORDERS = """sleep 1; echo '{"1": 3, "2": 5, "3": 2}'"""
PRICES = """sleep 1; echo '{"1": 20, "2": 4, "3": 150}'"""


@dag(
    schedule="@daily",
    catchup=False,
    params={
        "day": Param("2026-01-01", type="string", format="date"),
        "database": Param("/tmp/orders.db", type="string"),  # noqa: S108  # an example's
        "load_seconds": Param(0, type="integer", minimum=0, maximum=60, description="How long the database takes."),
    },
)
def orders() -> None:
    extract_orders = BashOperator(task_id="extract_orders", bash_command=ORDERS)
    extract_prices = BashOperator(task_id="extract_prices", bash_command=PRICES)

    @task(queue="high_cpu")
    def transform(quantities: str, prices: str) -> dict[str, int]:
        import json

        price = json.loads(prices)
        return {order: quantity * price[order] for order, quantity in json.loads(quantities).items()}

    @task(pool="warehouse", retries=2, retry_delay=timedelta(seconds=1))
    def load(sums: dict[str, int], *, params: dict[str, object] | None = None) -> None:
        import sqlite3
        import time
        from contextlib import closing

        assert params is not None
        with closing(sqlite3.connect(str(params["database"]))) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS orders (day TEXT, id TEXT, total INTEGER, PRIMARY KEY (day, id))")
            # A task may be tried again at any moment: all of a day is written, or nothing, and a second time changes nothing.
            rows = [(params["day"], order, total) for order, total in sums.items()]
            database.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", rows)
            time.sleep(int(str(params["load_seconds"])))

    load(transform(extract_orders.output, extract_prices.output))


orders()
