"""Random trading days: accounts of all sorts doing everything that moves money, drawn from one seed."""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any

from simcore import (
    ETH,
    FOK,
    HOUSE,
    IOC,
    ISOLATED,
    LIMIT,
    OTHER_HOUSE,
    POST_ONLY,
    REDUCE_ONLY,
    SOL,
    WETH,
    Sim,
    Trader,
    isolated_margin,
    x18,
)

from nadosim.errors import ExchangeError
from nadosim.x18 import ONE

HOUSES = [HOUSE, OTHER_HOUSE]
START = {ETH: 3000, SOL: 140, WETH: 3000}
TYPES = [LIMIT, IOC, FOK, POST_ONLY, IOC | REDUCE_ONLY, FOK | REDUCE_ONLY]
BUILDER = 1 << 48 | 20 << 38
WEIGHTS = {
    "house": 12,
    "cross": 8,
    "isolated": 6,
    "spot": 3,
    "cancel": 1,
    "funding": 2,
    "oracle": 2,
    "settle": 2,
    "withdraw": 1,
    "transfer": 1,
}


class Day:
    """One exchange, three wallets and two houses. `act` does one random thing; refusals are part of it."""

    def __init__(self, seed: int, **config: Any) -> None:
        self.rng = Random(seed)
        self.sim = Sim(**config)
        self.traders = [Trader(self.sim, number, deposit=1500) for number in (1, 2, 3)]
        self.sim.exchange.fund(self.traders[0].sender, ONE, WETH)
        self.bookings = 0

    def act(self) -> None:
        kind = self.rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        self.sim.clock.advance_ns(self.rng.randrange(200_000_000))
        with contextlib.suppress(ExchangeError):
            getattr(self, f"_{kind}")()
        self.bookings += 8

    # ---- what happens

    def _house(self) -> None:
        product_id = self.rng.choice([ETH, SOL, WETH])
        price, size = self._quote(product_id)
        self.sim.exchange.house_place(self.rng.choice(HOUSES), product_id, price, size, self.rng.randrange(4))

    def _cross(self) -> None:
        product_id = self.rng.choice([ETH, SOL])
        appendix = self.rng.choice(TYPES) | self.rng.choice([0, 0, BUILDER])
        self._place(self.rng.choice(self.traders), product_id, appendix)

    def _isolated(self) -> None:
        product_id = self.rng.choice([ETH, SOL])
        margin = isolated_margin(self.rng.choice([50, 100, 300]))
        appendix = self.rng.choice(TYPES) | ISOLATED | margin
        self._place(
            self.rng.choice(self.traders), product_id, appendix, borrow_margin=self.rng.random() < 0.5
        )

    def _spot(self) -> None:
        appendix = self.rng.choice([LIMIT, IOC, POST_ONLY])
        self._place(self.rng.choice(self.traders), WETH, appendix, spot_leverage=self.rng.random() < 0.5)

    def _cancel(self) -> None:
        self.sim.exchange.cancel_product_orders(self.rng.choice(self.traders).cancel_products())

    def _funding(self) -> None:
        if self.rng.random() < 0.5:
            self.sim.exchange.settle_funding()
        else:
            product_id = self.rng.choice([ETH, SOL])
            self.sim.exchange.pay_funding(product_id, self.rng.randint(-(10**18), 10**18))

    def _oracle(self) -> None:
        product_id = self.rng.choice([ETH, SOL])
        price = x18(START[product_id]) * self.rng.randint(85, 115) // 100
        self.sim.exchange.set_oracle(product_id, price)

    def _settle(self) -> None:
        for subaccount in [account.id for account in self.sim.exchange.accounts]:
            if self.rng.random() < 0.3 and self.sim.exchange.accounts.find(subaccount):
                house = self.sim.exchange.accounts.find(subaccount)
                assert house is not None
                if not house.is_house:
                    self.sim.exchange.settle_pnl(subaccount)

    def _withdraw(self) -> None:
        trader = self.rng.choice(self.traders)
        product_id, amount = self.rng.choice([(0, 20 * 10**6), (WETH, 10**16)])
        self.sim.execute("withdraw_collateral", trader.withdraw(product_id, amount))

    def _transfer(self) -> None:
        trader, other = self.rng.sample(self.traders, 2)
        self.sim.execute("transfer_quote", trader.transfer(other.sender, self.rng.randint(5, 40) * ONE))

    # ---- inside

    def _place(self, trader: Trader, product_id: int, appendix: int, **extra: Any) -> None:
        price, size = self._quote(product_id)
        side = "buy" if size > 0 else "sell"
        self.sim.place(
            trader.order(side, text(price), text(abs(size)), appendix, product_id=product_id, **extra)
        )

    def _quote(self, product_id: int) -> tuple[int, int]:
        """Prices within three ticks of each other, so that much of it trades."""
        product = self.sim.exchange.products[product_id]
        price = x18(START[product_id]) + self.rng.randint(-3, 3) * product.price_increment_x18
        lots = self.rng.randint(1, 40) * self.rng.choice([-1, 1])
        return price, lots * 10 * product.size_increment_x18


def text(value_x18: int) -> str:
    """Exact decimal text of a positive x18 value."""
    return f"{value_x18 // ONE}.{value_x18 % ONE:018d}"
