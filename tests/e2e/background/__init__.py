"""Tests of one lab in the background, which they change and break, and put right again."""
