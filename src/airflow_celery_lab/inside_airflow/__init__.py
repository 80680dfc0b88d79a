"""What Airflow's and Celery's own processes import."""
