"""The tour: eight steps into CeleryExecutor, as data. What talks, starts and breaks something is in `cli`."""
