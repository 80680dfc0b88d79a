"""Tests of one lab in the foreground, which they leave as it was."""
