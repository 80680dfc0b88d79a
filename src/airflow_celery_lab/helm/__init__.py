"""A project's Procfile as values for the official Helm chart of Apache Airflow: data from data, and no Kubernetes."""
