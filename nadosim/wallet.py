"""Executes of the wallet: link_signer, withdraw_collateral, transfer_quote, liquidate_subaccount.

Their nonce is strictly sequential per wallet and is used up by every one that is carried out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .accounts import ISOLATED_SUFFIX, ZERO_ADDRESS, Subaccount
from .core import Core
from .errors import ExchangeError
from .health import Change, Margin
from .liquidation import Liquidation
from .products import QUOTE_PRODUCT_ID, Product
from .records import ExecuteRecord
from .wallet_requests import (
    LinkSignerRequest,
    TransferRequest,
    WithdrawRequest,
    parse_link_signer,
    parse_liquidate,
    parse_transfer,
    parse_withdraw,
)
from .x18 import NS_PER_S, ONE

LINK_SIGNER_MIN_X18: Final = 5 * ONE
LINK_SIGNER_CHANGES: Final = 50
LINK_SIGNER_WINDOW_NS: Final = 7 * 86_400 * NS_PER_S
TRANSFER_MIN_X18: Final = 5 * ONE
TRANSFER_FEE_X18: Final = ONE
ISOLATED_TRANSFER_FEE_X18: Final = ONE // 10
NEW_RECIPIENTS: Final = 5
NEW_RECIPIENTS_WINDOW_NS: Final = 86_400 * NS_PER_S


class Wallet:
    """None of these is held, and none returns data."""

    def __init__(self, core: Core, liquidation: Liquidation) -> None:
        self._core = core
        self._liquidation = liquidation
        self._link_changes = core.link_changes
        self._recipients: dict[str, dict[str, int]] = {}  # wallet → recipient → first transfer, ns

    def link_signer(self, request: object) -> None:
        """Let another key sign for a subaccount; zero bytes revoke. Only the wallet itself may do it."""
        with self._execute("link_signer") as record:
            link = parse_link_signer(request)
            record.sender = link.sender
            checks = self._core.checks
            digest = checks.verifier.link_signer_digest(link)
            checks.signer(digest, link.signature, link.sender, may_be_linked=False)
            account = checks.account(link.sender)
            if account.is_isolated:
                raise ExchangeError(2089)
            checks.tx_nonce(account, link.nonce)
            self._require_linkable(account, link)
            account.linked_signer = link.signer[:42]
            self._link_changes[account.id].append(self._core.clock.now_ns())
            self._use_nonce(account)

    def withdraw(self, request: object, *, is_v2: bool = False) -> None:
        """Tokens leave the exchange, the token's fee on top."""
        with self._execute("withdraw_collateral_v2" if is_v2 else "withdraw_collateral") as record:
            withdrawal = parse_withdraw(request, is_v2=is_v2)
            record.sender = withdrawal.sender
            account = self._signed(
                self._core.checks.verifier.withdraw_digest(withdrawal),
                withdrawal.signature,
                withdrawal.sender,
                withdrawal.nonce,
            )
            product = self._spot_product(withdrawal.product_id)
            amount_x18 = withdrawal.amount * 10 ** (18 - product.token_decimals)
            self._require_withdrawable(account, product, withdrawal, amount_x18)
            with self._core.step():
                self._pay_out(account, product, amount_x18, record.kind)
            self._use_nonce(account)

    def transfer_quote(self, request: object) -> None:
        """USDT0 to another subaccount, created if it is new; the fee is the sender's."""
        with self._execute("transfer_quote") as record:
            transfer = parse_transfer(request)
            record.sender = transfer.sender
            account = self._signed(
                self._core.checks.verifier.transfer_digest(transfer),
                transfer.signature,
                transfer.sender,
                transfer.nonce,
            )
            fee_x18 = self._require_transferable(account, transfer)
            with self._core.step():
                self._move_quote(account, transfer, fee_x18)
            self._use_nonce(account)

    def liquidate(self, request: object) -> None:
        """Take over part of an unhealthy account's position."""
        with self._execute("liquidate_subaccount") as record:
            wanted = parse_liquidate(request)
            record.sender = wanted.sender
            account = self._signed(
                self._core.checks.verifier.liquidate_digest(wanted),
                wanted.signature,
                wanted.sender,
                wanted.nonce,
            )
            with self._core.step():
                self._liquidation.by_request(wanted, account)
            self._use_nonce(account)

    # ---- inside

    @contextmanager
    def _execute(self, kind: str) -> Iterator[ExecuteRecord]:
        core = self._core
        record = core.history.executed(core.clock.now_ns(), kind)
        with core.outcome(record, is_last=True):
            core.require_active()
            yield record

    def _signed(self, digest: str, signature: str, sender: str, nonce: int) -> Subaccount:
        """The sender's account, if signature and nonce are good."""
        checks = self._core.checks
        checks.signer(digest, signature, sender)
        account = checks.account(sender)
        checks.tx_nonce(account, nonce)
        return account

    def _use_nonce(self, account: Subaccount) -> None:
        nonces = self._core.accounts.tx_nonces
        nonces[account.address] = nonces.get(account.address, 0) + 1

    def _require_linkable(self, account: Subaccount, link: LinkSignerRequest) -> None:
        signer, now_ns = link.signer[:42], self._core.clock.now_ns()
        if signer == ZERO_ADDRESS and account.linked_signer == ZERO_ADDRESS:
            raise ExchangeError(2029)
        if signer == account.linked_signer:
            raise ExchangeError(2026)
        if self._core.health.health_x18(account, Margin.UNWEIGHTED) < LINK_SIGNER_MIN_X18:
            raise ExchangeError(2025)
        changes = self._link_changes.setdefault(account.id, deque(maxlen=LINK_SIGNER_CHANGES))
        if len(changes) == LINK_SIGNER_CHANGES and now_ns - changes[0] < LINK_SIGNER_WINDOW_NS:
            raise ExchangeError(2030)

    def _spot_product(self, product_id: int) -> Product:
        product = self._core.products.get(product_id)
        if product is None or product.is_perp:
            raise ExchangeError(2018)
        return product

    def _require_withdrawable(
        self, account: Subaccount, product: Product, request: WithdrawRequest, amount_x18: int
    ) -> None:
        if request.amount == 0:
            raise ExchangeError(2002)
        cost_x18 = amount_x18 + product.withdraw_fee_x18
        if not request.spot_leverage and account.spot_x18(product.product_id) < cost_x18:
            raise ExchangeError(2017)
        after = {product.product_id: Change(-cost_x18, 0)}
        if self._core.health.health_x18(account, Margin.INITIAL, after) < 0:
            raise ExchangeError(2036)

    def _pay_out(self, account: Subaccount, product: Product, amount_x18: int, kind: str) -> None:
        """A token's fee leaves with the token; USDT0's stays with the exchange."""
        core, product_id = self._core, product.product_id
        before = core.writer.balance(account, product_id)
        core.writer.next_idx()
        core.accounts.deposit(account, -amount_x18, product_id)
        if product_id == QUOTE_PRODUCT_ID:
            account.quote_x18 -= product.withdraw_fee_x18
            core.accounts.own.sequencer_fees_x18 += product.withdraw_fee_x18
        else:
            core.accounts.deposit(account, -product.withdraw_fee_x18, product_id)
        core.writer.changed(account, product_id, before, kind)

    def _require_transferable(self, account: Subaccount, transfer: TransferRequest) -> int:
        """The transfer's fee."""
        core = self._core
        if transfer.recipient == account.id:
            raise ExchangeError(2079)
        if transfer.amount_x18 < TRANSFER_MIN_X18:
            raise ExchangeError(2077)
        recipient = core.accounts.find(transfer.recipient)
        if recipient is None and transfer.recipient.endswith(ISOLATED_SUFFIX):
            raise ExchangeError(2050)  # the engine alone makes these
        if recipient is not None and recipient.is_house:
            raise ExchangeError(2050)
        is_isolated = account.is_isolated or (recipient is not None and recipient.is_isolated)
        if is_isolated and (recipient is None or recipient.owner is not account.owner):
            raise ExchangeError(2050)
        if not is_isolated:
            self._require_recipient(account.address, transfer.recipient)
        fee_x18 = ISOLATED_TRANSFER_FEE_X18 if is_isolated else TRANSFER_FEE_X18
        after = {QUOTE_PRODUCT_ID: Change(-transfer.amount_x18 - fee_x18, 0)}
        if core.health.health_x18(account, Margin.INITIAL, after) < 0:
            raise ExchangeError(2036)
        return fee_x18

    def _require_recipient(self, address: str, recipient: str) -> None:
        """2078: five recipients a day that are new to the wallet."""
        known, now_ns = self._recipients.setdefault(address, {}), self._core.clock.now_ns()
        recent = sum(now_ns - first_ns < NEW_RECIPIENTS_WINDOW_NS for first_ns in known.values())
        if recipient not in known and recent >= NEW_RECIPIENTS:
            raise ExchangeError(2078)

    def _move_quote(self, account: Subaccount, transfer: TransferRequest, fee_x18: int) -> None:
        core = self._core
        recipient = core.accounts.open(transfer.recipient)
        if not recipient.exists:
            recipient.exists, recipient.created_ns = True, core.clock.now_ns()
        self._recipients.setdefault(account.address, {}).setdefault(recipient.id, core.clock.now_ns())
        before = [core.writer.balance(side, QUOTE_PRODUCT_ID) for side in (account, recipient)]
        core.writer.next_idx()
        account.quote_x18 -= transfer.amount_x18 + fee_x18
        recipient.quote_x18 += transfer.amount_x18
        core.accounts.own.sequencer_fees_x18 += fee_x18
        for side, was in zip((account, recipient), before, strict=True):
            core.writer.changed(side, QUOTE_PRODUCT_ID, was, "transfer_quote")


def not_offered(_: object) -> None:
    """4001: mint_nlp, burn_nlp, and whatever else a trading client has no use for."""
    raise ExchangeError(4001)
