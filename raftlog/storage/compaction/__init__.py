"""Log compaction: of every key the last committed value stays (KIP-58).

Pure code over files: it reads closed segments and writes new ones beside them. It knows no log, no clock and
no network; what may be cleaned, and when, its caller decides. A broker runs it in a process of its own
(`python -m raftlog.storage.compaction`): to read a record costs a microsecond, and ten million records must
not share the interpreter's lock with the event loop.
"""
