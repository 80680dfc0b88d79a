"""Faults under load, and what they cost."""
