"""How long event loops and turns of Raft take under loads that once stopped them: see `__main__`."""
