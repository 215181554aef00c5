# cython: language_level=3
"""A book read from C: best levels without a Python object per message.

Build and run:  python setup.py build_ext --inplace && python -c "import microprice"
"""

from nadofast._book cimport Level, OrderBook


cpdef double microprice(OrderBook book) except? -1:
    """Price between the best bid and ask, weighted by the other side's size; for signals only (float).

    Raises ValueError if the book is invalid or a side is empty.
    """
    cdef Level bid, ask
    if not (book.read_bid(0, &bid) and book.read_ask(0, &ask)):
        raise ValueError("the book has no two sides to read")
    cdef double bid_qty = <double>bid.qty, ask_qty = <double>ask.qty
    return (<double>bid.price * ask_qty + <double>ask.price * bid_qty) / (bid_qty + ask_qty) / 1e18


def follow(OrderBook book, list messages):
    """Apply book_depth messages (bytes); the microprice after each."""
    cdef list prices = []
    for message in messages:
        book.apply(message)
        prices.append(microprice(book))
    return prices
