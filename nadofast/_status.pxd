"""Results of inflating, shared by both decoders."""


cdef enum:
    INFLATE_OK = 0
    INFLATE_BROKEN = -1       # not deflate, or a distance beyond the window
    INFLATE_TOO_LARGE = -2    # more output than max_output
    INFLATE_TRUNCATED = -3    # the message ends inside a block
    INFLATE_NO_MEMORY = -4
