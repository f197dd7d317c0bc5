"""The real worker on brokers in memory, in virtual time, with chance: `python -m tests.streams.world`."""
