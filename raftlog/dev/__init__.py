"""What `raftlog dev` is beside its brokers: their console, which can also cut links, kill, pause, and slow
disks.

The brokers are processes of their own. The console is the parent's, so that it goes on whatever is done to
them.
"""
