"""Click analytics: visits, pages by the hour, and clicks that come hours late.

    python -m examples.clicks

`app.py` counts, `day.py` makes a day of clicks and knows what must come of them.
"""
