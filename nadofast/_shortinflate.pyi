class ShortInflater:
    """Our own inflater; its interface is C (see _shortinflate.pxd), its Python face is Inflater(own=True)."""
