"""A plugin that cannot be imported."""

raise ImportError("the licence has expired")
