"""Log aggregation: lines of many services become error rates by the minute, and alerts.

    python -m examples.logs

`pipeline.toml` brings lines in and results out, `app.py` counts, `lines.py` writes log files with known
troubles in them.
"""
