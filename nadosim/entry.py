"""Checks an execute passes before it may touch the engine, in the order the exchange makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from .accounts import ZERO_ADDRESS, Accounts, Subaccount
from .clock import Clock
from .config import ExchangeConfig
from .engine import Book
from .errors import ExchangeError
from .isolated import IsolatedMargin
from .products import QUOTE_PRODUCT_ID, Product
from .requests import Appendix, OrderFields, OrderType, PlaceRequest
from .signatures import Verifier, check_signer
from .x18 import INT128_MAX, NS_PER_S, mul_x18

BPS: Final = 10_000
APPENDIX_VERSION: Final = 1


class EntryChecks:
    """Each method raises ExchangeError with the documented code, or returns."""

    def __init__(
        self,
        config: ExchangeConfig,
        clock: Clock,
        products: Mapping[int, Product],
        books: Mapping[int, Book],
        accounts: Accounts,
        isolated: IsolatedMargin,
    ) -> None:
        self._config = config
        self._clock = clock
        self._products = products
        self._books = books
        self._accounts = accounts
        self._isolated = isolated
        self.verifier = Verifier(config.chain_id, config.endpoint_address)
        self.good_signatures = 0  # of executes, since the start

    def recv_time(self, nonce: int) -> None:
        """The nonce's upper bits are a discard deadline: late is 2011, more than 100 s ahead is 2012."""
        self.deadline(nonce >> 20)

    def deadline(self, deadline_ms: int) -> None:
        now_ms = self._clock.now_ms()
        if deadline_ms <= now_ms:
            raise ExchangeError(2011)
        if deadline_ms > now_ms + self._config.recv_window_ms:
            raise ExchangeError(2012)

    def signer(self, digest: str, signature: str, sender: str, *, may_be_linked: bool = True) -> str:
        """The wallet's own signature or, where that may be, its linked signer's; returns who it was.

        For an isolated subaccount the parent's linked signer counts.
        """
        account = self._accounts.find(sender) if may_be_linked else None
        linked = account.owner.linked_signer if account is not None else ZERO_ADDRESS
        signer = check_signer(digest, signature, owner=sender[:42], linked_signer=linked)
        self.good_signatures += 1
        return signer

    def envelope(self, digest: str, signature: str, sender: str, nonce: int) -> str:
        """Discard time and signature of a request, in the order the exchange makes them; the signer."""
        if self._config.checked_first == "signature":
            signer = self.signer(digest, signature, sender)
            self.recv_time(nonce)
            return signer
        self.recv_time(nonce)
        return self.signer(digest, signature, sender)

    def account(self, sender: str) -> Subaccount:
        account = self._accounts.find(sender)
        if account is None or not account.exists or account.is_house:
            raise ExchangeError(2024)
        return account

    def tx_nonce(self, account: Subaccount, nonce: int) -> None:
        """The strictly sequential nonce of a wallet's other executes."""
        if nonce != self._accounts.tx_nonces.get(account.address, 0):
            raise ExchangeError(2022)

    def product_ids(self, product_ids: Iterable[int]) -> None:
        for product_id in product_ids:
            self.market(product_id)

    def market(self, product_id: int) -> Product:
        """The tradable product of that id."""
        if product_id == QUOTE_PRODUCT_ID:
            raise ExchangeError(2016)
        product = self._products.get(product_id)
        if product is None or product_id not in self._books:
            raise ExchangeError(2015)
        return product

    def order(self, request: PlaceRequest, appendix: Appendix, account: Subaccount) -> None:
        """Everything about an order that depends neither on its digest nor on balances."""
        product = self.market(request.product_id)
        self.appendix(appendix)
        self._margin_mode(product, appendix, account)
        self.expiration(request.order.expiration_s)
        self._price_and_size(request.order, appendix.order_type, product)
        if request.spot_leverage is not None and product.is_perp:
            raise ExchangeError(2019)
        may_reduce = appendix.order_type.is_taker or self._config.resting_reduce_only == "accept"
        if appendix.reduce_only and not may_reduce:
            raise ExchangeError(2067)

    def appendix(self, appendix: Appendix) -> None:
        """Version, reserved bits, triggers (not taken here), and who is named as builder."""
        if appendix.version != APPENDIX_VERSION:
            raise ExchangeError(2095)
        if appendix.reserved:
            raise ExchangeError(2065)
        if appendix.trigger:
            raise ExchangeError(2009, "The gateway takes no trigger orders.")
        if bool(appendix.builder_id) != bool(appendix.builder_fee_rate):
            raise ExchangeError(2118)
        if appendix.builder_id and appendix.builder_id not in self._config.builder_ids:
            raise ExchangeError(2118)
        if appendix.value and not appendix.isolated:
            raise ExchangeError(2065)

    def expiration(self, expiration_s: int) -> None:
        if expiration_s * NS_PER_S <= self._clock.now_ns():
            raise ExchangeError(2004)

    def open_orders(self, account: Subaccount, product_id: int) -> None:
        if self._books[product_id].count_of(account.id) >= self._config.max_open_orders:
            raise ExchangeError(2005)

    def trading_status(self, product_id: int, appendix: Appendix) -> None:
        status = self._accounts.states[product_id].trading_status
        if status == "not_tradable":
            raise ExchangeError(2069)
        if status == "post_only" and appendix.order_type is not OrderType.POST_ONLY:
            raise ExchangeError(2117)
        if status in ("reduce_only", "soft_reduce_only") and not appendix.reduce_only:
            raise ExchangeError(2119)

    def _margin_mode(self, product: Product, appendix: Appendix, account: Subaccount) -> None:
        """Who may trade what isolated; an isolated subaccount itself may only reduce."""
        if appendix.isolated and not product.is_perp:
            raise ExchangeError(2083)
        if account.is_isolated:
            if appendix.isolated:
                raise ExchangeError(2081)
            if product.product_id != account.product_id:
                raise ExchangeError(2082)
            if not appendix.reduce_only:
                raise ExchangeError(2088)
        if appendix.isolated:
            if appendix.reduce_only and self._config.isolated_reduce_only == "reject":
                raise ExchangeError(2085)
            if not appendix.reduce_only:
                self._isolated.require_room(account, product.product_id)
        elif product.isolated_only and not account.is_isolated:
            raise ExchangeError(2122)

    def _price_and_size(self, order: OrderFields, order_type: OrderType, product: Product) -> None:
        if order.price_x18 <= 0:
            raise ExchangeError(2055)
        if order.price_x18 % product.price_increment_x18:
            raise ExchangeError(2000)
        if order.amount_x18 == 0:
            raise ExchangeError(2002)
        if order.amount_x18 % product.size_increment_x18:
            raise ExchangeError(2001)
        notional_x18 = mul_x18(abs(order.amount_x18), order.price_x18)
        if notional_x18 > INT128_MAX:
            raise ExchangeError(2091)
        is_sized = self._config.takers_obey_min_size or not order_type.is_taker
        if is_sized and notional_x18 < product.min_size_x18:
            raise ExchangeError(2094)
        oracle = self._accounts.states[product.product_id].oracle_price_x18
        low, high = oracle * self._config.band_low_bps, oracle * self._config.band_high_bps
        if not low <= order.price_x18 * BPS <= high:
            raise ExchangeError(2007)
