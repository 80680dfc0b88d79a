"""A helper beside the DAGs."""

WORD = "beside"
