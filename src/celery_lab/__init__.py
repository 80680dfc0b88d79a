"""A whole Airflow CeleryExecutor cluster on one machine, without a container per service."""
