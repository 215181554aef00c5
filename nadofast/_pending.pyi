class PendingDeltas:
    """Bounded chain of depth messages waiting for a snapshot; its interface is C (see _pending.pxd)."""
