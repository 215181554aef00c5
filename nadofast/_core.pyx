"""From whole messages to books, BBOs and events: everything a feed does that needs no socket.

Market data costs no Python object and runs no Python code unless a callback was registered. Nothing in
a message makes this raise: bad data is counted and reported. Rules S1–S10 of book synchronisation are in
ARCHITECTURE.md; continuity of one book is in `_book`, waiting deltas are in `_pending`.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from ._bbo cimport MAX_LINKS, ORIGIN_REST, ORIGIN_STREAM, Bbo, agrees
from ._book cimport (
    BOOK_CROSSED,
    BOOK_IGNORED,
    BOOK_NO_MEMORY,
    REASON_BBO_DIFFERS,
    REASON_NO_SNAPSHOT,
    OrderBook,
)
from ._facts cimport Facts
from ._latency cimport Histo, Histogram, histo_record, histo_record_many
from ._parse cimport (
    View,
    acquire_view,
    build_error,
    build_event,
    kind_name,
    release_view,
    unknown_field,
    unknown_kind,
)
from ._message cimport (
    KIND_BBO,
    KIND_DEPTH,
    KIND_FILL,
    KIND_ORDER_UPDATE,
    KIND_POSITION_CHANGE,
    KIND_REPLY,
    KIND_TRADE,
    KIND_UNKNOWN,
    Message,
    message_free,
    message_init,
)
from ._scan cimport scan
from ._pending cimport ALREADY_KEPT, KEPT_AFTER_BREAK, PendingDeltas
from ._x18 cimport int128, int128_from_py

from .errors import ParseError

APPLIED = TAKEN
DELIVERED = HANDED_OVER
DUPLICATE = SEEN_BEFORE
BUFFERED = WAITING
GAP = BROKE
FOREIGN = NOT_OURS
UNKNOWN = NOT_KNOWN
PARSE_ERROR = NOT_READ

cdef extern from "Python.h":
    object PyObject_CallOneArg(object callback, object argument)

cdef int64_t SLOW_CALLBACK_NS = 200_000
cdef int64_t BBO_DIFFERS_NS = 500_000_000   # S8: a BBO may lead the depth batch by 50 ms
cdef int64_t AHEAD_NS = 100_000_000         # a link may run ahead of the others for so long: two depth batches
cdef uint32_t UNTIMED = 16                  # market messages of one burst per reading of the clock
cdef int NAMES_KEPT = 64                    # unknown kinds and fields reported by name


def monotonic_ns():
    return now_ns()


cdef class ProductFeed:
    """One product's book, BBO, synchronisation state and callbacks."""

    def __cinit__(self, int64_t product_id):
        self.product_id = product_id
        self.book = OrderBook(product_id)
        self.bbo = Bbo(product_id)
        self.pending = PendingDeltas()

    def stats(self):
        return {
            "best_bid_offer": self.bbos,
            "book_depth": self.depths,
            "duplicates": self.duplicates,
            "gaps": self.gaps,
            "ahead": self.ahead,
            "buffered": self.buffered,
            "buffer_breaks": self.breaks_in_buffer,
            "buffer_overflows": self.pending.overflows,
            "last_best_bid_offer_ns": self.last_bbo_ns,
            "last_book_depth_ns": self.last_depth_ns,
            "is_valid": self.book.is_valid,
            "levels": len(self.book),
        }


cdef class FeedCore:
    def __cinit__(self, *args, **kwargs):
        message_init(&self.message)
        memset(self.small, 0, sizeof(self.small))
        memset(self.kind_counts, 0, sizeof(self.kind_counts))
        memset(self.kind_last_ns, 0, sizeof(self.kind_last_ns))
        memset(&self.bbo_latency, 0, sizeof(Histo))
        memset(&self.depth_latency, 0, sizeof(Histo))
        memset(&self.callback_latency, 0, sizeof(Histo))

    def __dealloc__(self):
        message_free(&self.message)

    def __init__(
        self, product_ids, *, on_event=None, on_reply=None, on_gap=None, on_horizon=None,
        on_callback_error=None, on_parse_error=None, on_slow_callback=None,
    ):
        self.products = {product_id: ProductFeed(product_id) for product_id in product_ids}
        self.product_ids = tuple(self.products)
        memset(self.small, 0, sizeof(self.small))
        for product_id, feed in self.products.items():
            if 0 <= product_id < 256:
                self.small[<int>product_id] = <void*>feed
        self.on_event = on_event
        self.on_reply = on_reply
        self.on_gap = on_gap
        self.on_horizon = on_horizon
        self.on_callback_error = on_callback_error
        self.on_parse_error = on_parse_error
        self.on_slow_callback = on_slow_callback
        self.public_links = 1
        self.facts = Facts()
        self.unknown_kinds = set()
        self.unknown_fields = set()

    # --- messages ---

    def receive(self, data, int64_t now_ns, int link=0):
        cdef View view
        acquire_view(data, &view)
        try:
            return self.handle(view.data, view.size, now_ns, link, False)
        finally:
            release_view(&view)

    cdef int handle(self, const char* data, Py_ssize_t size, int64_t received_ns, int link,
                    bint timed) except -1:
        """One whole message in borrowed memory. timed: received_ns is now, so latency means something."""
        cdef int kind = scan(&self.message, data, size)
        self.messages += 1
        self.bytes_ += <uint64_t>size
        if kind < 0:
            return self._not_read(build_error(&self.message))
        self.kind_counts[kind] += 1
        self.kind_last_ns[kind] = received_ns
        if kind == KIND_BBO or kind == KIND_DEPTH:
            if not self.message.canonical:
                self.tolerant += 1
                self._count_fields()
            if kind == KIND_BBO:
                return self._bbo(received_ns, link, timed)
            return self._depth(received_ns, link, timed)
        self._count_fields()
        if kind == KIND_UNKNOWN:
            return self._unknown()
        return self._event(link)

    cdef int64_t settle(self, int64_t received_ns) noexcept nogil:
        """Record what was taken since the clock was last read, as taken now; the time. A burst ends with this.

        Reading the clock costs as much as a best_bid_offer, so without a callback several messages share a
        reading, the last one's: a latency is never told too short, and too long by what 15 messages take.
        """
        cdef int64_t taken_ns = now_ns()
        if self.untimed_bbos:
            histo_record_many(&self.bbo_latency, taken_ns - received_ns, self.untimed_bbos)
        if self.untimed_depths:
            histo_record_many(&self.depth_latency, taken_ns - received_ns, self.untimed_depths)
        self.untimed_bbos = self.untimed_depths = 0
        return taken_ns

    cdef ProductFeed find(self, int64_t product_id):
        """None if the product is not one of this feed's."""
        if 0 <= product_id < 256:
            return <ProductFeed>self.small[product_id] if self.small[product_id] != NULL else None
        return self.products.get(product_id)

    cdef int _bbo(self, int64_t received_ns, int link, bint timed) except -1:
        cdef ProductFeed feed = self.find(self.message.product_id)
        cdef int64_t taken_ns = 0
        if feed is None:
            self.foreign += 1
            return NOT_OURS
        feed.last_bbo_ns = received_ns
        if not feed.bbo.take(&self.message, link, received_ns):
            feed.duplicates += 1
            return SEEN_BEFORE
        feed.bbos += 1
        feed.bbo_is_new = True
        if timed:
            self.untimed_bbos += 1
            if feed.on_bbo is not None or self.untimed_bbos == UNTIMED:
                taken_ns = self.settle(received_ns)
        if feed.live:
            self._check_bbo(feed, received_ns)
        if feed.on_bbo is not None:
            self._call(feed.on_bbo, feed.bbo, taken_ns)
        if self.on_any_bbo is not None:
            self._call(self.on_any_bbo, feed.bbo, 0)
        return TAKEN

    cdef int _depth(self, int64_t received_ns, int link, bint timed) except -1:
        cdef ProductFeed feed = self.find(self.message.product_id)
        cdef uint32_t bit = <uint32_t>1 << (link & (MAX_LINKS - 1))
        cdef int kept
        if feed is None:
            self.foreign += 1
            return NOT_OURS
        feed.last_depth_ns = received_ns
        if feed.live:
            return self._depth_live(feed, received_ns, bit, timed)
        kept = feed.pending.keep(&self.message)                          # S1
        feed.joined = bit if kept == KEPT_AFTER_BREAK else feed.joined | bit
        if kept == ALREADY_KEPT:
            feed.duplicates += 1
            return SEEN_BEFORE
        feed.buffered += 1
        if kept == KEPT_AFTER_BREAK:
            feed.breaks_in_buffer += 1
        return WAITING

    cdef bint _runs_ahead(self, ProductFeed feed, int64_t received_ns) noexcept nogil:
        """Whether a link that has not joined yet is merely ahead of those that carry the book.

        What lies between them is on its way over the others; they are given AHEAD_NS to bring it.
        """
        if feed.joined == 0 or self.message.last_max_ns <= feed.book.timestamp_ns:
            return False
        if feed.ahead_since_ns == 0:
            feed.ahead_since_ns = received_ns
        return received_ns - feed.ahead_since_ns <= AHEAD_NS

    cdef int _depth_live(self, ProductFeed feed, int64_t received_ns, uint32_t bit, bint timed) except -1:
        cdef int status
        cdef int64_t taken_ns = 0
        if not feed.joined & bit and self._runs_ahead(feed, received_ns):
            feed.ahead += 1
            return SEEN_BEFORE
        status = feed.book.take(&self.message, False)
        if status == BOOK_IGNORED:
            feed.joined |= bit
            feed.duplicates += 1
            return SEEN_BEFORE
        if status == BOOK_NO_MEMORY:
            raise MemoryError
        if status < 0:
            feed.pending.clear()                                         # S6: restart with this message
            feed.joined = 0
            if status != BOOK_CROSSED:
                feed.pending.keep(&self.message)
                feed.joined = bit
            self._broken(feed)
            return BROKE
        feed.joined |= bit
        feed.ahead_since_ns = 0
        feed.depths += 1
        if feed.refreshing:
            feed.pending.keep(&self.message)
        if timed:
            self.untimed_depths += 1
            if feed.on_depth is not None or self.untimed_depths == UNTIMED:
                taken_ns = self.settle(received_ns)
        self._check_bbo(feed, received_ns)
        if not feed.live:
            return BROKE
        self._check_horizon(feed)
        if feed.on_depth is not None:
            self._call(feed.on_depth, feed.book, taken_ns)
        if self.on_any_depth is not None:
            self._call(self.on_any_depth, feed.book, 0)
        return TAKEN

    # --- breaks ---

    cdef int _broken(self, ProductFeed feed) except -1:
        """The stream broke a live book: say so once (S6, S9). Later deltas are kept until a snapshot joins."""
        feed.live = False
        feed.refreshing = False
        feed.differs_since_ns = 0
        feed.gaps += 1
        if self.on_gap is not None:
            self._call_two(self.on_gap, feed.product_id, feed.book.reason_text())
        return 0

    cdef int _check_bbo(self, ProductFeed feed, int64_t received_ns) except -1:
        """S8: BBO and book that disagree for longer than a bound. A BBO ahead of the book accuses nobody.

        Longer by our clock and by the exchange's: after a pause of ours, what ends a disagreement of a moment
        may still wait in the socket.
        """
        if feed.bbo.origin != ORIGIN_STREAM:
            return 0
        if agrees(feed.bbo, feed.book):
            feed.differs_since_ns = 0
        elif feed.bbo.stream_ns > feed.book.timestamp_ns:
            return 0
        elif feed.differs_since_ns == 0:
            feed.differs_since_ns = received_ns
            feed.differs_since_stream_ns = feed.book.timestamp_ns
        elif (feed.bbo_is_new and received_ns - feed.differs_since_ns > BBO_DIFFERS_NS
                and feed.book.timestamp_ns - feed.differs_since_stream_ns > BBO_DIFFERS_NS):
            feed.bbo_is_new = False   # the same BBO is evidence once: a lost BBO must not resync for ever
            feed.book.invalidate(REASON_BBO_DIFFERS)
            feed.pending.clear()
            feed.joined = 0
            self._broken(feed)
        return 0

    cdef int _check_horizon(self, ProductFeed feed) except -1:
        if not feed.horizon_told and feed.book.is_near_horizon():        # S10
            feed.horizon_told = True
            if self.on_horizon is not None:
                self._call(self.on_horizon, feed.product_id, 0)
        return 0

    # --- events ---

    cdef int _event(self, int link) except -1:
        cdef int kind = self.message.kind
        cdef bint is_account = (
            kind == KIND_FILL or kind == KIND_ORDER_UPDATE or kind == KIND_POSITION_CHANGE
        )
        cdef bint is_keyless = not is_account and kind != KIND_REPLY and kind != KIND_TRADE
        if is_keyless and not self.public_links >> (link & (MAX_LINKS - 1)) & 1:
            return SEEN_BEFORE
        callback = self.on_reply if kind == KIND_REPLY else self.on_event
        try:
            event = build_event(&self.message)
        except ParseError as error:
            return self._not_read(error)
        if is_account:
            return self._account_event(event, kind)
        if kind == KIND_TRADE and not self.facts.trade_is_new(event, link):
            return SEEN_BEFORE
        if callback is not None:
            self._call(callback, event, 0)
        return HANDED_OVER

    cdef int _account_event(self, object event, int kind) except -1:
        """Each fact once: by key, and positions never backwards. Seen only when its handler took it."""
        cdef Facts facts = self.facts
        cdef tuple key = facts.key_of(event, kind)
        if not facts.is_new(key, event, kind):
            self.event_duplicates += 1
            return SEEN_BEFORE
        if self.on_event is not None and not self._call(self.on_event, event, 0):
            return HANDED_OVER
        facts.told(key, event, kind)
        return HANDED_OVER

    cdef int _unknown(self) except -1:
        """Protocol drift is news: every unknown kind is reported once and counted always."""
        self.unknown_kind_count += 1
        try:
            event = build_event(&self.message)
        except ParseError as error:
            return self._not_read(error)
        if event.kind not in self.unknown_kinds and len(self.unknown_kinds) < NAMES_KEPT:
            self.unknown_kinds.add(event.kind)
            if self.on_event is not None:
                self._call(self.on_event, event, 0)
        return NOT_KNOWN

    cdef int _count_fields(self) except -1:
        if self.message.unknown_fields:
            self.unknown_field_count += <uint64_t>self.message.unknown_fields
            if len(self.unknown_fields) < NAMES_KEPT:
                self.unknown_fields.add(unknown_field(&self.message))
        return 0

    cdef int _not_read(self, object error) except -1:
        self.parse_errors += 1
        self.last_parse_error = str(error)
        if self.on_parse_error is not None:
            self._call(self.on_parse_error, error, 0)
        return NOT_READ

    # --- callbacks ---

    cdef bint _call(self, object callback, object argument, int64_t start) except -1:
        """Run one callback: timed, its exception its own. True if it returned. start: the time if it was just read, else 0."""
        cdef int64_t took
        cdef bint returned = True
        if start == 0:
            start = now_ns()
        try:
            PyObject_CallOneArg(callback, argument)
        except Exception as error:
            returned = False
            self._callback_failed(error)
        took = now_ns() - start
        histo_record(&self.callback_latency, took)
        if took > SLOW_CALLBACK_NS:
            self.slow_callbacks += 1
            if self.on_slow_callback is not None:
                self._call_two(self.on_slow_callback, callback, took)
        return returned

    cdef int _call_two(self, object callback, object first, object second) except -1:
        try:
            callback(first, second)
        except Exception as error:
            self._callback_failed(error)
        return 0

    cdef int _callback_failed(self, object error) except -1:
        """What on_callback_error raises is not caught: then the link latches and somebody must look."""
        self.callback_errors += 1
        if self.on_callback_error is not None:
            self.on_callback_error(error)
        return 0

    # --- Python face ---

    def book(self, product_id):
        return (<ProductFeed>self.products[product_id]).book

    def bbo(self, product_id):
        return (<ProductFeed>self.products[product_id]).bbo

    def set_callback(self, kind, product_id, callback):
        cdef ProductFeed feed
        if kind not in ("best_bid_offer", "book_depth"):
            raise ValueError(f"kind is best_bid_offer or book_depth, not {kind!r}")
        if callback is not None and not callable(callback):
            raise TypeError("a callback must be callable")
        is_bbo = kind == "best_bid_offer"
        if product_id is None:
            if is_bbo:
                self.on_any_bbo = callback
            else:
                self.on_any_depth = callback
            return
        feed = self.products[product_id]
        if is_bbo:
            feed.on_bbo = callback
        else:
            feed.on_depth = callback

    def begin(self, product_id, bint keep=False):
        cdef ProductFeed feed = self.products[product_id]
        feed.pending.clear()
        if keep and feed.live:
            feed.refreshing = True
            return
        if feed.joined == 0:
            self.facts.forget_trades(product_id)
        feed.joined = 0
        feed.book.clear()                                                # S7
        feed.book.invalidate(REASON_NO_SNAPSHOT)
        feed.live = False
        feed.refreshing = False
        feed.differs_since_ns = 0

    def leave(self, int link):
        cdef ProductFeed feed
        link &= MAX_LINKS - 1
        self.facts.leave(link)
        for feed in self.products.values():
            feed.joined &= ~(<uint32_t>1 << link)
            feed.bbo.link_ns[link] = 0

    def load_snapshot(self, product_id, bids, asks, int64_t timestamp_ns, Py_ssize_t depth=100):
        cdef ProductFeed feed = self.products[product_id]
        cdef Py_ssize_t i
        if feed.live and not feed.refreshing and timestamp_ns <= feed.book.timestamp_ns:
            return True       # nobody asked, and the book is ahead of it
        if not feed.pending.joins(timestamp_ns):
            return False
        if feed.live and feed.pending.count == 0 and timestamp_ns < feed.book.timestamp_ns:
            return False      # would take a book that follows the stream back in time
        feed.book.replace(bids, asks, timestamp_ns, depth)
        for i in range(feed.pending.first_after(timestamp_ns), feed.pending.count):
            scan(&self.message, feed.pending.data(i), feed.pending.deltas[i].size)
            if feed.book.take(&self.message, False) < 0:
                break
        feed.pending.clear()
        feed.refreshing = False
        feed.ahead_since_ns = 0
        feed.live = feed.book.valid()
        feed.horizon_told = False
        feed.differs_since_ns = 0
        return feed.live

    def needs_snapshot(self, product_id):
        cdef ProductFeed feed = self.products[product_id]
        return not feed.live or feed.refreshing

    def seed_bbo(
        self, product_id, bid_price_x18, ask_price_x18, *, bid_qty_x18=0, ask_qty_x18=0,
        int64_t timestamp_ns=0, now_ns=None, source="rest",
    ):
        cdef ProductFeed feed = self.products[product_id]
        cdef Bbo bbo = feed.bbo
        cdef int128 bid_price = 0
        cdef int128 bid_qty = 0
        cdef int128 ask_price = 0
        cdef int128 ask_qty = 0
        cdef int64_t received_ns = monotonic_ns() if now_ns is None else now_ns
        if source != "rest":
            raise ValueError("only values from REST are seeded; the stream's come by receive()")
        int128_from_py(bid_price_x18, &bid_price)
        int128_from_py(bid_qty_x18, &bid_qty)
        int128_from_py(ask_price_x18, &ask_price)
        int128_from_py(ask_qty_x18, &ask_qty)
        if bid_price < 0 or bid_qty < 0 or ask_price < 0 or ask_qty < 0:
            raise ValueError("a negative price or quantity")
        if bbo.origin == ORIGIN_STREAM and (
            bbo.received_ns > received_ns or (timestamp_ns and timestamp_ns < bbo.stream_ns)
        ):
            return False
        bbo.bid_price = bid_price
        bbo.bid_qty = bid_qty
        bbo.ask_price = ask_price
        bbo.ask_qty = ask_qty
        bbo.timestamp_ns = timestamp_ns
        bbo.received_ns = received_ns
        bbo.origin = ORIGIN_REST
        if feed.on_bbo is not None:
            self._call(feed.on_bbo, bbo, 0)
        if self.on_any_bbo is not None:
            self._call(self.on_any_bbo, bbo, 0)
        return True

    def stats(self):
        cdef int kind
        products = {product_id: feed.stats() for product_id, feed in self.products.items()}
        return {
            "messages": self.messages,
            "bytes": self.bytes_,
            "parse_errors": self.parse_errors,
            "last_parse_error": self.last_parse_error,
            "unknown_kinds": self.unknown_kind_count,
            "unknown_kind_names": tuple(sorted(self.unknown_kinds)),
            "unknown_fields": self.unknown_field_count,
            "unknown_field_names": tuple(sorted(self.unknown_fields)),
            "tolerant": self.tolerant,
            "foreign": self.foreign,
            "gaps": sum(product["gaps"] for product in products.values()),
            "duplicates": self.event_duplicates + sum(p["duplicates"] for p in products.values()),
            "callback_errors": self.callback_errors,
            "slow_callbacks": self.slow_callbacks,
            "by_kind": {kind_name(kind): self.kind_counts[kind] for kind in range(KIND_UNKNOWN + 1)},
            "last_ns": {kind_name(kind): self.kind_last_ns[kind] for kind in range(KIND_UNKNOWN + 1)},
            "products": products,
            "latency": {
                "best_bid_offer": _summary(&self.bbo_latency),
                "book_depth": _summary(&self.depth_latency),
                "callback": _summary(&self.callback_latency),
            },
        }


cdef dict _summary(const Histo* data):
    cdef Histogram histogram = Histogram()
    histogram.data = data[0]
    return histogram.summary()
