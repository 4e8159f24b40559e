"""Tests of `fastkit.errors`."""
