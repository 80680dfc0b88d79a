"""Measures the lab against a Procfile that one would write by hand, and against `airflow standalone`."""
