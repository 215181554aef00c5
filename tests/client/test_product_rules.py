"""Rounding is directional and exact; x18 conversion loses nothing or refuses."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from clientkit import sample
from hypothesis import given
from hypothesis import strategies as st

from nadofast import MAINNET, OrderRequest, OrderType, custom, errors, from_x18, parse_symbols, to_x18
from nadofast.network import resolve
from nadofast.order_rules import check_request
from nadofast.products import Product, div_x18, mul_x18

INT128 = st.integers(-(2**127), 2**127 - 1)
ETH = parse_symbols(sample("query_symbols")["response"]["data"])[4]
SOL = parse_symbols(sample("query_symbols")["response"]["data"])[8]


@given(INT128)
def test_x18_round_trip(value: int) -> None:
    assert to_x18(from_x18(value)) == value
    assert to_x18(str(from_x18(value))) == value


@pytest.mark.parametrize("value", ["0.0000000000000000001", "1e-19", "nan", "inf", "abc", "", "1,5"])
def test_what_does_not_fit_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"number|decimals"):
        to_x18(value)


@pytest.mark.parametrize("value", [0.1, 1.0, True, None])
def test_inexact_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        to_x18(value)  # type: ignore[arg-type]


def test_conversions() -> None:
    assert to_x18("3021.4") == 3021400000000000000000
    assert to_x18(Decimal("-0.125")) == -(10**18) // 8
    assert to_x18(7) == 7 * 10**18
    assert from_x18(1) == Decimal("1E-18")


@given(st.integers(1, 10**24))
def test_price_rounding(price: int) -> None:
    down, up = ETH.round_price(price, "down"), ETH.round_price(price, "up")
    step = ETH.price_increment_x18
    assert down % step == up % step == 0
    assert down <= price <= up
    assert up - down in (0, step)


@given(st.integers(-(10**24), 10**24))
def test_size_rounding_is_toward_zero(size: int) -> None:
    rounded = SOL.round_size(size)
    assert rounded % SOL.size_increment_x18 == 0
    assert 0 <= abs(size) - abs(rounded) < SOL.size_increment_x18
    assert rounded == 0 or (rounded > 0) == (size > 0)


def test_a_size_below_one_step() -> None:
    assert SOL.round_size(SOL.size_increment_x18 - 1) == 0
    with pytest.raises(ValueError, match="step"):
        SOL.round_size_nonzero(SOL.size_increment_x18 - 1)
    assert SOL.round_size_nonzero(-SOL.size_increment_x18) == -SOL.size_increment_x18


def test_min_size_is_notional() -> None:
    price = to_x18("3000")
    assert not ETH.meets_min_size(to_x18("0.033"), price)
    assert ETH.meets_min_size(-to_x18("0.034"), price)
    assert ETH.notional_x18(-to_x18("0.1"), price) == to_x18(300)


@given(INT128, st.integers(-(10**24), 10**24))
def test_engine_arithmetic_truncates_toward_zero(a: int, b: int) -> None:
    assert mul_x18(a, b) == int(Decimal(a * b).scaleb(-18).to_integral_value(rounding="ROUND_DOWN")) or (
        # Decimal's default context is too narrow for the largest products: compare exactly instead.
        abs(mul_x18(a, b)) == abs(a * b) // 10**18
    )
    assert mul_x18(a, b) == -mul_x18(-a, b)
    if b:
        assert div_x18(a, b) == -div_x18(-a, b)
        assert abs(div_x18(a, b)) == abs(a) * 10**18 // abs(b)


def test_symbols() -> None:
    products = parse_symbols(sample("query_symbols")["response"]["data"])
    assert set(products) == {2, 3, 4, 8}
    assert products[4].symbol == "ETH-PERP"
    assert products[4].price_increment_x18 == to_x18("0.1")
    assert products[8].size_increment_x18 == to_x18("0.1")
    assert products[4].min_size_x18 == to_x18(100)
    assert products[3].max_open_interest_x18 is None
    assert [product.is_perp for product in products.values()] == [
        product.product_id % 2 == 0 for product in products.values()
    ]


def test_symbols_are_read_leniently_and_refused_strictly() -> None:
    row = dict(sample("query_symbols")["response"]["data"]["symbols"]["ETH-PERP"])
    row["product_id"] = "4"
    row["price_increment_x18"] = 10**17
    del row["trading_status"]
    assert parse_symbols([row])[4] == ETH
    assert not parse_symbols([row | {"isolated_only": "false"}])[4].isolated_only
    assert parse_symbols([row | {"isolated_only": "true"}])[4].isolated_only
    for broken in (
        {**row, "min_size": 1e20},
        {**row, "isolated_only": "no"},
        {**row, "size_increment": "0"},
        {**row, "price_increment_x18": "0x1"},
        {name: value for name, value in row.items() if name != "symbol"},
    ):
        with pytest.raises(errors.BadResponse):
            parse_symbols([broken])
    for broken in (None, 3, "x", [1]):
        with pytest.raises(errors.BadResponse):
            parse_symbols(broken)


def test_product_is_a_value() -> None:
    assert isinstance(ETH, Product)
    assert hash(ETH) == hash(ETH)


@pytest.mark.parametrize(
    ("status", "takes"),
    [
        ("live", {"ioc", "reduce_only", "post_only"}),
        ("post_only", {"post_only"}),
        ("reduce_only", {"reduce_only"}),
        ("soft_reduce_only", {"reduce_only"}),
        ("not_tradable", set()),
    ],
)
def test_a_trading_status_denies_what_the_exchange_would_refuse(status: str, takes: set[str]) -> None:
    """Before anything is signed; a leg that reduces is let through wherever the exchange takes it."""
    product = replace(ETH, trading_status=status)
    size_x18, price_x18 = to_x18("0.1"), to_x18(3000)
    kinds = {
        "ioc": OrderRequest(4, price_x18, size_x18, OrderType.IOC),
        "reduce_only": OrderRequest(4, price_x18, size_x18, OrderType.IOC, reduce_only=True),
        "post_only": OrderRequest(4, price_x18, size_x18, OrderType.POST_ONLY),
    }
    for name, request in kinds.items():
        if name in takes:
            check_request(request, {4: product})
        else:
            with pytest.raises(errors.OrderDenied, match="trading_status"):
                check_request(request, {4: product})


def test_a_network_that_is_not_known_or_not_whole_is_refused_by_name() -> None:
    """Orders are signed for its chain and contract: there is no default to fall back to."""
    assert resolve("mainnet") is MAINNET
    assert resolve(MAINNET) is MAINNET
    with pytest.raises(errors.ConfigError, match="unknown network 'main'; known: mainnet, testnet"):
        resolve("main")
    whole = {
        key: f"ws://x/{key}"
        for key in ("gateway", "gateway_ws", "gateway_ws_v2", "subscribe", "archive", "endpoint_addr")
    }
    assert custom("sim", whole | {"chain_id": "57073"}).chain_id == 57073
    for key in whole:
        with pytest.raises(errors.ConfigError, match=f"network sim: {key} is missing"):
            custom("sim", whole | {"chain_id": 1, key: None})
    for chain_id in (None, "", "0x1", 0, -1, True, 1.0):
        with pytest.raises(errors.ConfigError, match="chain_id is missing or not a positive integer"):
            custom("sim", whole | {"chain_id": chain_id})
