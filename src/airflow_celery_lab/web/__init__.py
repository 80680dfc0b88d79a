"""The lab's pages in Airflow's own web interface."""
