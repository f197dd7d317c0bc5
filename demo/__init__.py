"""What `make demo` runs: the hello-worlds of the Kafka tutorials, then a real log through killed brokers."""
