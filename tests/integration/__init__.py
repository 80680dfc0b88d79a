"""Tests of some parts together with real processes and servers, but without a whole cluster."""
