"""Tests of what teaches: experiments and the tour, in one lab."""
