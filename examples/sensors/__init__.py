"""Sensors: averages over the last seconds, an alarm when it is too hot, and a page that shows them live.

    python -m examples.sensors

`app.py` averages, `rooms.py` makes readings, `dashboard.html` asks the app's stores over HTTP each second.
"""
