"""Tests of whole clusters."""
