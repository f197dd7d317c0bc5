"""Clients that lose their brokers leave sockets behind."""

from tests.leftovers import collect_leftovers as collect_leftovers
