"""A schema registry with Confluent's REST API: `raftlog registry`, a process of its own.

It keeps everything in the compacted topic `_schemas`, in Confluent's record format, by way of the package's
own client: Apache Kafka's brokers will do as well. What it serves is a picture of that log, so that those
who run side by side see the same.

    records     what a record of the topic says: bytes in, entries out
    state       the picture: entries in, answers out; synchronous
    topic       reads the log into the state, and has one writer at a time
    formats/    Avro, JSON Schema, Protobuf: what is valid, what is the same, what is compatible
    reader      has `formats` work in a process that may be ended
    registry    what is asked for: register, look up, delete, compare
    api, app    the same over HTTP

It knows no broker from inside.
"""
