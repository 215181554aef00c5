"""The pair trader: long one perpetual, short the other, in equal notional; decide, limit, execute, account.

Read `app.py` first (what is built and in which order), then `pair.py` (the loop) and `machine.py` (the
decisions, pure). Nothing here parses a frame, builds a request or touches a socket: that is `nadofast`.
"""
