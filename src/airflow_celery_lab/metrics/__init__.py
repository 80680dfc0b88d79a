"""What Prometheus reads of a lab."""
