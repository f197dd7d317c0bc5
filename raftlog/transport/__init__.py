"""The links between brokers: what goes over the wire, who is at the other end, what goes first."""
