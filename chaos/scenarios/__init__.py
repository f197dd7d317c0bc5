"""Scenarios by name; importing a module of this folder enters its own."""

from __future__ import annotations

from chaos.scenarios import disks, networks, others, power, processes
from chaos.scenarios.scenario import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario", "disks", "networks", "others", "power", "processes"]
