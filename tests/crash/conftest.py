"""Fixtures of this folder."""

from tests.leftovers import collect_leftovers as collect_leftovers
