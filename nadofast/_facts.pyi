class TradeOrder:
    """Trades of one product over several links; its interface is C (see _facts.pyx)."""

class Facts:
    """What was told already; its interface is C (see _facts.pxd)."""
