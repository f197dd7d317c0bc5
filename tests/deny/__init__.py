"""The deny and the credential register: what has returned is in force on every broker, whatever happens to
brokers.

    python -m tests.deny --seconds 3600 --results FILE    # both in turn; the file's pieces are summed up
    python -m tests.deny --register credentials --seconds 600 --seed 7
    python -m tests.deny --plant all --seconds 120        # must find each of them

An administrator denies and allows somebody by turns, or changes and takes away a password. That somebody
writes, reads, looks and logs in at every broker all the time, while brokers are paused, cut off, made late,
killed and started again. Each fault meets a change (`cue.py`). Every operation is kept with when it was begun
and when it ended, by one clock; `judge.py` says what may not have been.
"""
