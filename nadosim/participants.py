"""Simulated participants: makers who keep a ladder of quotes, takers who come in clusters.

Both see prices as whole ticks. A participant acts when it is woken, by a few orders at a time, as
real ones do; what it does depends on the seed, the latent price and the book, never on a clock.
"""

from __future__ import annotations

import math
from random import Random

from .engine import NO_ASK_X18
from .errors import ExchangeError
from .exchange import Exchange
from .products import Product
from .regimes import Style
from .requests import OrderType
from .x18 import ONE


class Venue:
    """One product in ticks and lots. gap: ticks between two quoted levels (1 unless ticks are tiny)."""

    def __init__(self, exchange: Exchange, product: Product, gap_bps: float = 0.3) -> None:
        self._exchange = exchange
        self._resting = exchange.books[product.product_id].orders
        self._accounts = exchange.accounts
        self.product = product
        self.product_id = product.product_id
        self.tick_x18 = product.price_increment_x18
        self.lot_x18 = product.size_increment_x18
        start_ticks = product.start_price_x18 // self.tick_x18
        self.gap = max(1, round(start_ticks * gap_bps * 1e-4))
        self.refused = 0

    def to_ticks(self, price: float) -> float:
        return price * ONE / self.tick_x18

    def bbo_ticks(self) -> tuple[int | None, int | None]:
        bid_x18, _, ask_x18, _ = self._exchange.bbo(self.product_id)
        bid = bid_x18 // self.tick_x18 if bid_x18 else None
        ask = ask_x18 // self.tick_x18 if ask_x18 != NO_ASK_X18 else None
        return bid, ask

    def amount_x18(self, notional: float, ticks: int) -> int:
        """Whole lots worth about `notional`, never below the minimum order."""
        lot_value = self.lot_x18 / ONE * (ticks * self.tick_x18 / ONE)
        lots = max(math.ceil(self.product.min_size_x18 / ONE / lot_value), round(notional / lot_value))
        return lots * self.lot_x18

    def place(self, subaccount: str, ticks: int, amount_x18: int, order_type: OrderType) -> str | None:
        """Digest, or None when the exchange refuses (the book moved, the account is full)."""
        try:
            return self._exchange.house_place(
                subaccount, self.product_id, ticks * self.tick_x18, amount_x18, order_type
            )
        except ExchangeError:
            self.refused += 1
            return None

    def cancel(self, subaccount: str, digest: str) -> None:
        self._exchange.house_cancel(subaccount, self.product_id, digest)

    def position_notional(self, subaccount: str) -> float:
        """Signed value of what a participant holds, in quote units."""
        account = self._accounts.find(subaccount)
        if account is None:
            return 0.0
        held_x18 = self._accounts.position_x18(account, self.product_id)
        return held_x18 / ONE * (self._accounts.states[self.product_id].oracle_price_x18 / ONE)

    def rests(self, digest: str) -> bool:
        return digest in self._resting


class Maker:
    """Keeps `style.levels` quotes a side around the latent price, a few changes at a time."""

    def __init__(self, rng: Random, venue: Venue, subaccount: str, style: Style) -> None:
        self.subaccount = subaccount
        self._rng = rng
        self._venue = venue
        self._style = style
        self._skew = 0.0  # in gaps: this maker's own error about the price
        self._quotes: tuple[dict[int, str], dict[int, str]] = ({}, {})  # ticks → digest: bids, asks
        self._ticks: dict[str, tuple[int, int]] = {}  # digest → (side, ticks)

    def requote(self, latent_ticks: float, budget: int) -> None:
        """At most `budget` orders: withdraw what is too near, fill what is missing, else refresh one."""
        self._notice_fills()
        self._skew = 0.7 * self._skew + self._rng.gauss(0.0, self._style.noise)
        best = self._targets(latent_ticks)
        done = sum(self._withdraw(side, best[side], budget) for side in (0, 1))
        for side in self._rng.sample((0, 1), 2):
            done += self._fill_in(side, best[side], budget - done)
        if done == 0:
            self._refresh(self._rng.randrange(2), best)

    def _notice_fills(self) -> None:
        """Forget quotes that rest no more. Nobody tells a house account; it looks when it wakes."""
        for digest in [digest for digest in self._ticks if not self._venue.rests(digest)]:
            side, ticks = self._ticks.pop(digest)
            del self._quotes[side][ticks]

    def _targets(self, latent_ticks: float) -> tuple[int, int]:
        """Best bid and ask this maker wants: on its grid, never crossing what others show."""
        gap = self._venue.gap
        fair = latent_ticks / gap + self._skew - self._lean()
        bid = math.floor(fair - self._style.half_spread) * gap
        ask = math.ceil(fair + self._style.half_spread) * gap
        best_bid, best_ask = self._venue.bbo_ticks()
        if best_ask is not None:
            bid = min(bid, (best_ask - 1) // gap * gap)
        if best_bid is not None:
            ask = max(ask, -(-(best_bid + 1) // gap) * gap)
        return bid, ask

    def _lean(self) -> float:
        """Gaps by which a maker who holds much quotes lower, and one who is short higher."""
        share = self._venue.position_notional(self.subaccount) / self._style.inventory_limit
        return self._style.half_spread * max(-2.0, min(2.0, share))

    def stand_aside(self) -> None:
        """Stand aside: cancel the three best quotes of each side."""
        self._notice_fills()
        for side in (0, 1):
            for at in sorted(self._quotes[side], reverse=side == 0)[:3]:
                self._cancel(side, at)

    def _withdraw(self, side: int, best: int, budget: int) -> int:
        """Cancel quotes better than `best` and those that fell out of the far end."""
        gap, quotes = self._venue.gap, self._quotes[side]
        toward = 1 if side == 0 else -1
        far = best - toward * gap * (self._style.levels + 8)
        stale = [at for at in quotes if (at - best) * toward > 0 or (far - at) * toward > 0]
        stale.sort(reverse=side == 0)
        for at in stale[:budget]:
            self._cancel(side, at)
        return min(len(stale), budget)

    def _fill_in(self, side: int, best: int, budget: int) -> int:
        gap, quotes = self._venue.gap, self._quotes[side]
        step = -gap if side == 0 else gap
        missing = (best + k * step for k in range(self._style.levels) if best + k * step not in quotes)
        placed = 0
        for at, _ in zip(missing, range(budget), strict=False):
            self._place(side, at, abs(at - best) // gap)
            placed += 1
        return placed

    def _refresh(self, side: int, best: tuple[int, int]) -> None:
        """Change the size of one quote, mostly near the touch."""
        if not self._quotes[side]:
            return
        near = sorted(self._quotes[side], reverse=side == 0)
        index = min(int(self._rng.expovariate(0.35)), len(near) - 1)
        self._cancel(side, near[index])
        self._place(side, near[index], abs(near[index] - best[side]) // self._venue.gap)

    def _place(self, side: int, ticks: int, level: int) -> None:
        deeper = min(4.0, 1.0 + 0.12 * level)
        notional = self._style.touch_notional * deeper * self._rng.lognormvariate(0.0, 0.5)
        amount_x18 = self._venue.amount_x18(notional, ticks)
        digest = self._venue.place(
            self.subaccount, ticks, amount_x18 if side == 0 else -amount_x18, OrderType.POST_ONLY
        )
        if digest is not None:
            self._quotes[side][ticks] = digest
            self._ticks[digest] = (side, ticks)

    def _cancel(self, side: int, ticks: int) -> None:
        digest = self._quotes[side].pop(ticks)
        self._ticks.pop(digest, None)
        self._venue.cancel(self.subaccount, digest)


class Takers:
    """Anonymous orders that cross the spread. They lean toward the latent price."""

    def __init__(
        self,
        rng: Random,
        venue: Venue,
        subaccounts: tuple[str, ...],
        *,
        median_notional: float,
        mean_chain: float,
    ) -> None:
        self._rng = rng
        self._venue = venue
        self._subaccounts = subaccounts
        self._log_median = math.log(median_notional)
        self._mean_chain = mean_chain

    def cluster(self, latent_ticks: float) -> tuple[int, list[float]]:
        """A burst: its side (0 buys, 1 sells) and the delay of each order in seconds."""
        bid, ask = self._venue.bbo_ticks()
        lean = 0.0
        if bid is not None and ask is not None:
            lean = max(-0.35, min(0.35, (latent_ticks - (bid + ask) / 2) / (8 * self._venue.gap)))
        side = 0 if self._rng.random() < 0.5 + lean else 1
        count = min(8, 1 + int(self._rng.expovariate(1.0 / self._mean_chain)))
        delays, at_s = [], 0.0
        for _ in range(count):
            delays.append(at_s)
            at_s += self._rng.expovariate(1 / 0.08)
        return side, delays

    def strike(self, side: int) -> None:
        """One immediate order of random size, at most three levels deep."""
        if self._rng.random() < 0.15:
            side = 1 - side
        bid, ask = self._venue.bbo_ticks()
        touch = ask if side == 0 else bid
        if touch is None:
            return
        reach = self._rng.choice((0, 0, 1, 2, 3)) * self._venue.gap
        limit = touch + reach if side == 0 else touch - reach
        notional = min(40_000.0, self._rng.lognormvariate(self._log_median, 1.1))
        amount_x18 = self._venue.amount_x18(notional, touch)
        subaccount = self._rng.choice(self._subaccounts)
        self._venue.place(subaccount, limit, amount_x18 if side == 0 else -amount_x18, OrderType.IOC)
