"""A project on two releases of Airflow, side by side."""
