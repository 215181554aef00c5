"""Configuration: layers, sources, and one clear line for everything that is wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bot.config import AccountSection, SettingsError, known_keys, load
from bot.credentials import find


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "bot.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_layers_and_their_sources(tmp_path: Path) -> None:
    file = toml(tmp_path, "[run]\ncycles = 3\nhold_s = 0.1\n[pair]\nsize_usd = 120\n")
    environ = {"NADO_BOT_RUN__CYCLES": "7", "NADO_BOT_PAIR__SIZE_USD": "130", "OTHER": "x"}
    effective = load(file, {"pair.size_usd": "140.5"}, environ)
    assert effective.settings.run.cycles == 7
    assert effective.settings.run.hold_s == 0.1
    assert effective.settings.pair.size_usd == Decimal("140.5")
    assert dict(effective.sources) == {
        "run.cycles": "environment",
        "run.hold_s": str(file),
        "pair.size_usd": "command line",
    }
    assert "pair.size_usd = 140.5 (command line)" in list(effective.lines())


def test_defaults_need_nothing_and_limits_follow_the_size() -> None:
    settings = load(None, {"pair.size_usd": "200"}, {}).settings
    assert (settings.venue, settings.run.cycles) == ("sim", 4)
    assert (settings.max_leg_usd, settings.max_gross_usd) == (Decimal(200), Decimal(400))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[risk]\nmax_leg_us = 3\n", "unknown key 'risk.max_leg_us'; did you mean 'risk.max_leg_usd'?"),
        ("cycles = 3\n", "unknown key 'cycles'; did you mean 'run.cycles'?"),
        ("[entry]\nmax_blind_s = 1\n", "did you mean 'risk.max_blind_s'?"),
        ("[rsk]\n", "unknown section 'rsk'; did you mean 'risk'?"),
        ("risk = 3\n", "risk is a section, write [risk]"),
        ("[pair.size_usd]\nx = 1\n", "unknown key 'pair.size_usd.x'"),
        ("[risk\n", "not valid TOML"),
        ("[run]\ncycles = 0\n", "run.cycles"),
        ("[run]\ncycles = \"many\"\n", "run.cycles"),
        ("[run]\nhold_s = nan\n", "run.hold_s"),
        ("[run]\nhold_s = -1\n", "run.hold_s"),
        ("[pair]\nsize_usd = -5\n", "pair.size_usd"),
        ("[pair]\nsize_usd = 0\n", "pair.size_usd"),
        ("[pair]\nfirst = \"SOL-PERP\"\n", "same product"),
        ("[risk]\nmax_leg_usd = 100\n", "exceeds risk.max_leg_usd"),
        ("[risk]\nmax_gross_usd = 200\n", "below twice pair.size_usd"),
        ("[risk]\ndaily_loss_pct = 0\n", "risk.daily_loss_pct"),
        ("[exchange]\nport = 70000\n", "exchange.port"),
        ("[run]\ncycles = true\n", "run.cycles: true is not a value"),
        ("[risk]\ndaily_loss_pct = 0.00001\n", "risk.daily_loss_pct"),
        ("[risk]\ndaily_loss_pct = nan\n", "risk.daily_loss_pct"),
        ("[risk]\nmax_net_delta_pct = 0.001\n", "risk.max_net_delta_pct"),
        ("[risk]\nmax_quote_age_s = 0.0001\n", "risk.max_quote_age_s"),
        ("[exit]\ncap_bps = 0\n", "exit.cap_bps"),
        ("[pair]\nsize_usd = inf\n", "pair.size_usd"),
        ("[pair]\nsize_usd = 1e300\n", "pair.size_usd"),
        ("[[run]]\ncycles = 1\n", "run is a section"),
        ("[run]\ncycles = 2026-01-01\n", "run.cycles"),
        ("[exchange]\ncommand = \"python -m nadosim\"\n", "exchange.command"),
        ("# " + "x" * (1 << 20), "no settings file"),
        ("x = " + "[" * 5_000, "not valid TOML"),
        ("[run]\non_open = \"ask\"\n", "run.on_open"),
        ("venue = \"binance\"\n", "unknown venue 'binance'; known: sim, testnet, mainnet, custom"),
    ],
)  # fmt: skip
def test_one_line_that_names_the_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(toml(tmp_path, text), {}, {})
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert message.startswith(str(tmp_path))


def test_environment_and_file_errors() -> None:
    with pytest.raises(SettingsError, match="NADO_BOT_RISK__MAX_LEG_USD"):
        load(None, {}, {"NADO_BOT_RISK__MAX_LEG": "3"})
    with pytest.raises(SettingsError, match="no such file"):
        load(Path("/nonexistent/bot.toml"), {}, {})
    with pytest.raises(SettingsError, match="cannot be read"):
        load(Path("/"), {}, {})


def test_a_command_from_the_environment_is_split() -> None:
    settings = load(None, {}, {"NADO_BOT_EXCHANGE__COMMAND": "python3 -m nadosim"}).settings
    assert settings.exchange.command == ("python3", "-m", "nadosim")


def test_a_command_with_quotes_is_split_like_a_shell_does() -> None:
    settings = load(None, {}, {"NADO_BOT_EXCHANGE__COMMAND": "'/a path/python' -m nadosim"}).settings
    assert settings.exchange.command == ("/a path/python", "-m", "nadosim")
    with pytest.raises(SettingsError, match="NADO_BOT_EXCHANGE__COMMAND: No closing quotation"):
        load(None, {}, {"NADO_BOT_EXCHANGE__COMMAND": "'python"})


def test_every_key_has_a_section_or_is_the_venue() -> None:
    assert [key for key in known_keys() if "." not in key] == ["venue"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0x" + "ab" * 20, "looks like an address"),
        ("0x" + "00" * 32, "zero"),
        ("0x" + "ff" * 32, "order of the curve"),
        ("hello", "not hex"),
        ("", "empty"),
        ("0x" + "ab" * 31, "62 hex digits"),
    ],
)
def test_bad_keys_say_what_is_wrong_and_never_what_they_are(text: str, expected: str) -> None:
    with pytest.raises(SettingsError, match="NADO_PRIVATE_KEY") as caught:
        find(AccountSection(), {"NADO_PRIVATE_KEY": text})
    assert expected in str(caught.value)
    assert not text or text not in str(caught.value)


def test_no_key_is_fine_and_a_good_one_is_secret() -> None:
    assert find(AccountSection(), {}).key is None
    key = find(AccountSection(), {"NADO_PRIVATE_KEY": "0x" + "1a" * 32}).key
    assert "1a1a" not in f"{key!r}{key}"


def test_every_switch_may_be_set_in_a_file(tmp_path: Path) -> None:
    switches = [key for key, value, _ in load(environ={}).rows() if value in ("True", "False")]
    assert {"websocket.enabled", "exit.move_in_one_step"} <= set(switches)
    for key in switches:
        section, _, name = key.partition(".")
        for value in (True, False):
            file = toml(tmp_path, f"[{section}]\n{name} = {str(value).lower()}\n")
            assert getattr(getattr(load(file, environ={}).settings, section), name) is value


def test_the_websocket_can_be_switched_off_by_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "bot.toml"
    file.write_text("[websocket]\nenabled = false\n")
    assert load().settings.websocket.enabled
    assert not load(file, environ={}).settings.websocket.enabled
    assert not load(environ={"NADO_BOT_WEBSOCKET__ENABLED": "false"}).settings.websocket.enabled
    with pytest.raises(SettingsError, match=r"websocket\.enabled"):
        load(environ={"NADO_BOT_WEBSOCKET__ENABLED": "perhaps"})
