"""The embedded exchange: same wire protocol as the real one, own process, own code.

Start reading at `exchange.py`: the core without I/O. It shares no code with the client it is used to test.
"""
