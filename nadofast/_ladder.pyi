"""One side of a book; its interface is C (see _ladder.pxd)."""
