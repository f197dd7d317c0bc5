"""A partition on its Raft group: offsets, producer dedupe, high watermark."""
