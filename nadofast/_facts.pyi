class Facts:
    """What was told already; its interface is C (see _facts.pxd)."""
