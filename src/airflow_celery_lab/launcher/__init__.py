"""What stands before every process: its name, its start, its stop signal, its record, and the end of its tree."""
