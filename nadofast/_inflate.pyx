"""permessage-deflate, receive side (RFC 7692), by our own decoder (_shortinflate) or by zlib's C functions.

NADOFAST_INFLATE=zlib, read when a connection is made, chooses zlib. It is found at run time, not at build time:
the interpreter's own `zlib` extension brings it along, so neither a header nor a second library is needed. Per
message neither allocates: for zlib a short input is copied to where the four bytes follow that a sender leaves
out, a long one is read where it lies and gets them as a second input; output goes to one buffer that only grows,
up to the cap of one message.
"""

import os
import zlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset


cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* path, int flags)
    void* dlsym(void* handle, const char* name)
    int RTLD_LAZY
    void* RTLD_DEFAULT


cdef enum:
    Z_SYNC_FLUSH = 2
    Z_OK = 0
    Z_STREAM_END = 1
    Z_BUF_ERROR = -5
    AT_BLOCK_START = 128      # bit of z_stream.data_type
    WINDOW = 32768
    FIRST_CAPACITY = 65536

ctypedef int (*InflateInit2)(z_stream*, int, const char*, int) noexcept nogil
ctypedef int (*InflateFlush)(z_stream*, int) noexcept nogil
ctypedef int (*InflateStream)(z_stream*) noexcept nogil
ctypedef int (*InflateGetDictionary)(z_stream*, uint8_t*, unsigned int*) noexcept nogil
ctypedef int (*InflateSetDictionary)(z_stream*, const uint8_t*, unsigned int) noexcept nogil
ctypedef const char* (*ZlibVersion)() noexcept nogil

cdef InflateInit2 z_init
cdef InflateFlush z_inflate
cdef InflateStream z_reset
cdef InflateStream z_end
cdef InflateGetDictionary z_get_dictionary
cdef InflateSetDictionary z_set_dictionary
cdef ZlibVersion z_version


cdef void* _find(list handles, const char* name) except NULL:
    cdef void* symbol
    for handle in handles:
        symbol = dlsym(<void*><size_t>handle, name)
        if symbol != NULL:
            return symbol
    raise ImportError(f"no zlib in this process: {name.decode()} not found (install zlib, e.g. zlib1g)")


cdef list _handles():
    """Where to look, as addresses: the zlib extension and what it links, the process, the system's library."""
    cdef void* handle
    found = []
    for path in (getattr(zlib, "__file__", None), None, "libz.so.1"):
        if path is None:
            found.append(<size_t>RTLD_DEFAULT)
            continue
        handle = dlopen(path.encode(), RTLD_LAZY)
        if handle != NULL:
            found.append(<size_t>handle)
    return found


cdef int _bind() except -1:
    global z_init, z_inflate, z_reset, z_end, z_get_dictionary, z_set_dictionary, z_version
    handles = _handles()
    z_init = <InflateInit2>_find(handles, "inflateInit2_")
    z_inflate = <InflateFlush>_find(handles, "inflate")
    z_reset = <InflateStream>_find(handles, "inflateReset")
    z_end = <InflateStream>_find(handles, "inflateEnd")
    z_get_dictionary = <InflateGetDictionary>_find(handles, "inflateGetDictionary")
    z_set_dictionary = <InflateSetDictionary>_find(handles, "inflateSetDictionary")
    z_version = <ZlibVersion>_find(handles, "zlibVersion")
    return 0


_bind()
ZLIB_VERSION = z_version().decode()

cdef uint8_t[4] TAIL = [0x00, 0x00, 0xFF, 0xFF]
cdef dict REASONS = {
    INFLATE_BROKEN: "broken deflate data",
    INFLATE_TOO_LARGE: "a message inflates beyond the limit",
    INFLATE_TRUNCATED: "deflate data ends inside a block",
    INFLATE_NO_MEMORY: "out of memory",
}


cdef bint _wants_own() except -1:
    choice = os.environ.get("NADOFAST_INFLATE", "own")
    if choice not in ("zlib", "own"):
        raise ValueError(f"NADOFAST_INFLATE={choice[:20]!r}: expected zlib or own")
    return choice == "own"


cdef class Inflater:
    def __cinit__(
        self, int window_bits=15, bint no_context_takeover=False, Py_ssize_t max_output=4194304, own=None
    ):
        if not 8 <= window_bits <= 15:
            raise ValueError("window_bits lies between 8 and 15")
        if max_output < 1:
            raise ValueError("max_output must be positive")
        memset(&self.stream, 0, sizeof(z_stream))
        self.no_takeover = no_context_takeover
        self.max_output = max_output
        if _wants_own() if own is None else own:
            self.own = ShortInflater(window_bits, no_context_takeover, max_output)
            return
        self.capacity = min(max_output, FIRST_CAPACITY)
        self.buffer = <uint8_t*>malloc(<size_t>self.capacity)
        if self.buffer == NULL:
            raise MemoryError
        # Deflaters that are asked for 8 bits use 9; reading with 9 fits both.
        if z_init(&self.stream, -max(window_bits, 9), z_version(), <int>sizeof(z_stream)) != Z_OK:
            raise MemoryError
        self.ready = True

    def __dealloc__(self):
        if self.ready:
            z_end(&self.stream)
        free(self.buffer)

    @property
    def decoder(self):
        return "zlib" if self.own is None else "own"

    cdef void begin(self) noexcept nogil:
        self.out_size = 0
        if self.own is not None:
            self.own.begin()

    cdef int feed(self, const char* data, Py_ssize_t size, bint final) noexcept nogil:
        """One fragment. After `final` the whole message is in out[:out_size]."""
        cdef int status
        if self.broken:
            return INFLATE_BROKEN
        if self.own is not None:
            status = self.own.feed(<const uint8_t*>data, size, final)
            self.out = self.own.out
            self.out_size = self.own.out_size
        else:
            status = self._feed_zlib(<const uint8_t*>data, size, final)
        self.broken = status != INFLATE_OK
        return status

    cdef int _feed_zlib(self, const uint8_t* data, Py_ssize_t size, bint final) noexcept nogil:
        cdef int status
        if final and size <= SHORT:
            # Copying a short message costs less than calling zlib again for its tail.
            memcpy(self.joined, data, <size_t>size)
            memcpy(self.joined + size, TAIL, sizeof(TAIL))
            status = self._run(self.joined, size + <Py_ssize_t>sizeof(TAIL))
        else:
            status = self._run(data, size)
            if status == INFLATE_OK and final:
                status = self._run(TAIL, sizeof(TAIL))
        if status == INFLATE_OK and final:
            if not (self.stream.data_type & AT_BLOCK_START):
                return INFLATE_TRUNCATED
            if self.no_takeover and z_reset(&self.stream) != Z_OK:
                return INFLATE_BROKEN
        self.out = self.buffer
        return status

    cdef int _run(self, const uint8_t* data, Py_ssize_t size) noexcept nogil:
        cdef int status
        self.stream.next_in = data
        self.stream.avail_in = <unsigned int>size
        while True:
            self.stream.next_out = self.buffer + self.out_size
            self.stream.avail_out = <unsigned int>(self.capacity - self.out_size)
            status = z_inflate(&self.stream, Z_SYNC_FLUSH)
            self.out_size = self.stream.next_out - self.buffer
            if status == Z_STREAM_END:
                status = self._next_stream()
            if status != Z_OK and status != Z_BUF_ERROR:
                return INFLATE_BROKEN
            if self.stream.avail_out != 0:
                if self.stream.avail_in == 0:
                    return INFLATE_OK
                if status == Z_BUF_ERROR:
                    return INFLATE_BROKEN
            elif self.capacity == self.max_output:
                # Full to the last byte: legal if nothing more is to come.
                if self.stream.avail_in == 0:
                    return INFLATE_OK
                return INFLATE_TOO_LARGE
            elif not self._grow():
                return INFLATE_NO_MEMORY

    cdef bint _grow(self) noexcept nogil:
        cdef Py_ssize_t capacity = min(self.capacity * 2, self.max_output)
        cdef uint8_t* out = <uint8_t*>realloc(self.buffer, <size_t>capacity)
        if out == NULL:
            return False
        self.buffer = out
        self.capacity = capacity
        return True

    cdef int _next_stream(self) noexcept nogil:
        """A block with BFINAL ended zlib's stream; for the extension the window goes on (RFC 7692, 7.2.3.4)."""
        cdef uint8_t[WINDOW] window
        cdef unsigned int size = 0
        if z_get_dictionary(&self.stream, window, &size) != Z_OK or z_reset(&self.stream) != Z_OK:
            return INFLATE_BROKEN
        self.stream.data_type = AT_BLOCK_START
        return z_set_dictionary(&self.stream, window, size)

    def inflate(self, *fragments):
        cdef int status = INFLATE_OK
        cdef Py_ssize_t i
        cdef bytes fragment
        self.begin()
        for i in range(len(fragments)):
            fragment = fragments[i]
            status = self.feed(
                PyBytes_AS_STRING(fragment), PyBytes_GET_SIZE(fragment), i + 1 == len(fragments)
            )
            if status != INFLATE_OK:
                raise ValueError(REASONS[status])
        return PyBytes_FromStringAndSize(<char*>self.out, self.out_size)
