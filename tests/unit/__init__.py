"""Tests of one module each, without a process, a server or a clock."""
