"""Consensus: who leads a group and which of its entries are committed; drives the disk, knows no socket."""
