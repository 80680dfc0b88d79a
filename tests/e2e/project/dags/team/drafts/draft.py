"""Not to be read."""

raise RuntimeError("a draft")
