"""The clients under test: one thin adapter each, all with the interface of `base.Client`."""
