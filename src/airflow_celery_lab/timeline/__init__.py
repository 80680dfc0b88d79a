"""What a cluster did during a DAG run: spans of time from what Airflow and the lab have recorded, a page and a trace of them."""
