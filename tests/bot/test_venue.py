"""Where a run may trade: play money as it is, real money only by name, chain id and confirmation together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bot import venue
from bot.config import Settings, SettingsError, load
from bot.venue import choose, is_seeded
from nadofast.network import MAINNET, TESTNET, Network
from nadofast.secret import Secret
from nadosim.config import CHAIN_ID
from nadosim.seeded_keys import derive_account

OWN = Secret("0x" + "5a" * 32)
READY = {
    "gateway": "http://127.0.0.1:1/v1", "gateway_ws": "ws://127.0.0.1:1/v1/ws",
    "gateway_ws_v2": "ws://127.0.0.1:1/ws/v2", "subscribe": "ws://127.0.0.1:1/v1/subscribe",
    "archive": "http://127.0.0.1:1/archive/v1", "control": "http://127.0.0.1:1/sim",
    "endpoint_addr": "0x" + "11" * 20,
}  # fmt: skip


def described(tmp_path: Path, **changes: Any) -> Path:
    account = derive_account(7, 0)
    path = tmp_path / "exchange.json"
    path.write_text(
        json.dumps({**READY, "chain_id": CHAIN_ID, "accounts": [account.ready_entry()], **changes})
    )
    return path


def settings(**overrides: Any) -> Settings:
    keys = {name.replace("__", "."): value for name, value in overrides.items()}
    keys.setdefault("output.state_dir", Path("/var/lib/nadofast"))
    return load(None, keys, {}).settings


def refused(expected: str, chosen: Settings, key: Secret | None = OWN, ask: Any = None) -> None:
    with pytest.raises(SettingsError, match=expected) as caught:
        choose(chosen, seed=1, key=key, ask=ask)
    assert "\n" not in str(caught.value)
    assert OWN.reveal()[2:] not in str(caught.value)


def test_the_embedded_exchange_needs_nothing() -> None:
    chosen = choose(settings(), seed=1, key=None)
    assert (chosen.is_embedded, chosen.is_real, chosen.key) == (True, False, None)


def test_its_chain_id_is_the_one_the_embedded_exchange_has() -> None:
    assert venue.SIM_CHAIN_ID == CHAIN_ID
    assert CHAIN_ID not in (MAINNET.chain_id, TESTNET.chain_id)


def test_one_that_already_runs_is_play_money_by_its_chain_id(tmp_path: Path) -> None:
    chosen = choose(settings(exchange__file=described(tmp_path)), seed=1, key=None)
    assert (chosen.is_embedded, chosen.is_real) == (False, False)
    assert chosen.exchange.instance.startswith("http://127.0.0.1:1/v1 ")
    refused("chain id 57073", settings(exchange__file=described(tmp_path, chain_id=57073)))


@pytest.mark.parametrize("name", ["mainnet", "testnet"])
def test_real_networks_need_the_words_and_a_key_of_ones_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        venue, "KNOWN_SEEDS", 10
    )  # looked through for every refusal, and not asked about here
    where = {"mainnet": MAINNET, "testnet": TESTNET}[name]
    words = f"{name}/{where.chain_id}"
    chosen = choose(settings(venue=name, live__confirm=words), seed=1, key=OWN)
    assert (chosen.is_embedded, chosen.is_real, chosen.key) == (False, True, OWN)
    for wrong in (None, "", "yes", name, f"{name}/1", f"{name}/{where.chain_id}0", words.upper()):
        refused(f"needs --confirm {words}", settings(venue=name, live__confirm=wrong))
    other = "testnet" if name == "mainnet" else "mainnet"
    refused("needs --confirm", settings(venue=name, live__confirm=words.replace(name, other)))
    refused("NADO_PRIVATE_KEY: not set", settings(venue=name, live__confirm=words), key=None)


@pytest.mark.parametrize("where", ["state", "./state", "../state"])
def test_real_money_is_remembered_in_one_place_wherever_the_bot_is_started(where: str) -> None:
    """A halt in `state` is forgotten by whoever starts the bot in another directory."""
    words = {"live__confirm": "mainnet/57073", "venue": "mainnet", "output__state_dir": Path(where)}
    refused("output.state_dir: .* absolute", settings(**words))
    assert not choose(settings(output__state_dir=Path(where)), seed=1, key=None).is_real
    assert choose(settings(**words), seed=1, key=OWN, only_looks=True).is_real


def test_another_way_to_the_same_exchange_finds_the_same_halt(tmp_path: Path) -> None:
    words = {"venue": "custom", "live__confirm": f"staging/{CHAIN_ID}"}
    chosen = []
    for address in ("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"):
        file = described(tmp_path, name="staging", gateway=address)
        chosen.append(choose(settings(**words, exchange__file=file), seed=1, key=OWN))
    assert chosen[0].exchange.instance == chosen[1].exchange.instance == READY["endpoint_addr"]


def test_a_person_at_the_terminal_may_type_the_words() -> None:
    chosen = settings(venue="mainnet")
    assert choose(chosen, seed=1, key=OWN, ask=lambda question: " mainnet/57073\n").is_real
    refused("it says 'y'", chosen, ask=lambda question: "y")
    asked: list[str] = []
    refused("it says 'no'", settings(venue="mainnet", live__confirm="no"), ask=asked.append)
    assert not asked  # words that were given are not asked for again


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (1, 1), (7, 0), (99_999, 1)])
def test_keys_out_of_a_seed_are_refused_where_money_is_real(seed: int, index: int) -> None:
    key = derive_account(seed, index).private_key
    assert key is not None
    assert is_seeded(Secret(key))
    refused("made from a seed", settings(venue="testnet", live__confirm="testnet/763373"), key=Secret(key))


def test_a_key_out_of_the_file_itself_is_refused_whatever_its_seed(tmp_path: Path) -> None:
    account = derive_account(123_456_789, 0)
    assert account.private_key is not None
    file = described(tmp_path, chain_id=57073, accounts=[account.ready_entry()])
    chosen = settings(venue="custom", exchange__file=file, live__confirm="custom/57073")
    refused("made from a seed", chosen, key=Secret(account.private_key))
    assert choose(chosen, seed=1, key=OWN).is_real


def test_a_network_of_ones_own_is_real_even_on_the_embedded_chain(tmp_path: Path) -> None:
    file = described(tmp_path, name="staging")
    refused(f"needs --confirm staging/{CHAIN_ID}", settings(venue="custom", exchange__file=file))
    chosen = settings(venue="custom", exchange__file=file, live__confirm=f"staging/{CHAIN_ID}")
    assert choose(chosen, seed=1, key=OWN).is_real


@pytest.mark.parametrize("name", ["mainnet", "testnet", "sim", "main net", "", 5, None])
def test_it_cannot_borrow_a_name(tmp_path: Path, name: object) -> None:
    file = described(tmp_path, name=name)
    refused("exchange.file: name", settings(venue="custom", exchange__file=file))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe", b'{"gateway": 5}', b" " * (300 << 10)])
def test_a_file_that_describes_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "exchange.json"
    path.write_bytes(content)
    refused("exchange.file", settings(exchange__file=path))
    refused("exchange.file", settings(venue="custom", exchange__file=path))


@pytest.mark.parametrize("where", [MAINNET, TESTNET])
async def test_the_venue_alone_says_where_the_sockets_are(where: Network, tmp_path: Path) -> None:
    chosen = choose(settings(venue=where.name), seed=1, key=OWN, only_looks=True)
    ready = await chosen.exchange.start()
    assert ready.network is where
    secure = {"gateway_rest": "https", "archive": "https", "subscribe": "wss", "gateway_ws_v2": "wss"}
    for name, scheme in secure.items():
        address = urlsplit(getattr(where, name))
        assert address.scheme == scheme, name
        assert str(address.hostname).endswith(".nado.xyz"), name
    file = described(tmp_path, name="staging")
    own = choose(settings(venue="custom", exchange__file=file), seed=1, key=OWN, only_looks=True)
    brought = (await own.exchange.start()).network
    assert (brought.name, brought.gateway_rest) == ("staging", READY["gateway"])
    assert brought.subscribe == READY["subscribe"]


def test_endpoints_of_a_real_network_cannot_be_bent(tmp_path: Path) -> None:
    chosen = settings(venue="mainnet", exchange__file=described(tmp_path), live__confirm="mainnet/57073")
    refused("mainnet has its own endpoints", chosen)


@pytest.mark.parametrize("name", ["MAINNET", "TESTNET", "DEVNET", "main", "", "paper"])
def test_an_unknown_venue_is_an_error_never_a_default(name: str) -> None:
    with pytest.raises(SettingsError, match="unknown venue"):
        settings(venue=name)
