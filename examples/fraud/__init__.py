"""Fraud detection: a payment in a file becomes an alert, and rows of a warehouse.

    python -m examples.fraud

`app.py` decides, `pipeline.toml` brings payments in and results out, `payments.py` makes payments with known
frauds among them, `running.py` runs both on whatever brokers there are.
"""
