"""Bytes over connections: one stream, one frame cutter, one send queue, under everything with a socket."""
