"""Postgres and Redis: which programs there are, how they are prepared, and whether they answer."""
