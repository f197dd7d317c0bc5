"""Whole applications on raftlog: each has one command, a test without a broker and one with."""
