"""Event sourcing: commands on accounts become events, or are refused.

    python -m examples.accounts

`app` is the app, `tellers` who sends commands and judges what came of them.
"""
