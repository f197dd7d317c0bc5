"""The JSON API: a module for each noun. A module has `routes(api)`; all are imported with the first request.

Numbers that may be beyond 2^53 (offsets, timestamps, indexes) are strings: a browser would round them.
"""
