"""Apps on real brokers."""
