"""Settings: from a file, from options, and what is said about those that cannot be used."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from simproc import ROOT, SimProcess

from nadosim.__main__ import main, parse
from nadosim.settings import Settings, SettingsError, load


def test_a_file_may_say_everything(tmp_path: Path) -> None:
    path = tmp_path / "day.toml"
    path.write_text(
        """
        regime = "jumpy"
        rate = 50
        rate_limit_reply = "http"
        tls = true

        [switches]
        dead_digest = "fill_remainder"
        takers_obey_min_size = true
        builder_ids = [1, 7]
        swapped_types = ["dt"]
        settle_interval_s = 3.5

        [[faults]]
        at_s = 5
        every_s = 60
        cut = "subscribe"

        [[faults]]
        delay = { ms = 40, jitter_ms = 10, for_s = 30 }
        """
    )
    settings = load(str(path), {"rate": 70.0, "seed": None})
    assert (settings.regime, settings.rate, settings.seed, settings.tls) == ("jumpy", 70.0, 1, True)
    assert settings.switches == {
        "dead_digest": "fill_remainder",
        "takers_obey_min_size": True,
        "builder_ids": frozenset({1, 7}),
        "swapped_types": frozenset({"dt"}),
        "settle_interval_s": 3.5,
    }
    first, second = settings.faults
    assert (first.at_s, first.every_s, first.faults) == (5, 60, {"cut": "subscribe"})
    assert second.at_s == 0


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ({"regime": "stormy"}, "regime"),
        ({"rate_limit_reply": "maybe"}, "rate_limit_reply"),
        ({"tls": 1}, "tls"),
        ({"tls_cert": "a.pem"}, "tls_key"),
        ({"switches": {"gravity": 1}}, "gravity"),
        ({"switches": {"dead_digest": "maybe"}}, "dead_digest"),
        ({"switches": {"takers_obey_min_size": 1}}, "takers_obey_min_size"),
        ({"switches": {"chain_id": 57073}}, "chain_id"),
        ({"switches": {"swapped_types": ["colour"]}}, "swapped_types"),
        ({"switches": 3}, "switches"),
        ({"faults": [{"at_s": -1, "mute": 1}]}, "at_s"),
        ({"faults": [{"at_s": 1}]}, "empty"),
        ({"faults": [{"melt": 1}]}, "melt"),
        ({"faults": "all"}, "faults"),
        ({"replay": ""}, "replay"),
        ({"speed": True}, "speed"),
    ],
)
def test_what_cannot_be_used_is_named(overrides: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsError, match=word) as refused:
        load(None, overrides)
    assert "\n" not in str(refused.value)


def test_options_reach_the_settings() -> None:
    assert parse([]) == Settings()
    switches = ("self_trade=reject_taker", "update_extras=true", "batch_delay_ns=5")
    given = [word for switch in switches for word in ("--switch", switch)]
    settings = parse(["--regime", "thin", "--no-rate-limits", "--tls", *given])
    assert (settings.regime, settings.rate_limits, settings.tls) == ("thin", False, True)
    assert settings.switches == {"self_trade": "reject_taker", "update_extras": True, "batch_delay_ns": 5}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--replay", "/nowhere/at/all.gz"], b"/nowhere/at/all.gz: No such file"),
        (["--replay", __file__], b"Not a gzipped file"),
        (["--tls-cert", __file__, "--tls-key", __file__], b"SSL"),
        (["--tls-cert", __file__, "--tls-key", "/nowhere/key.pem"], b"/nowhere/key.pem: No such file"),
        (["--regime", "stormy"], b"regime"),
        (["--switch", "gravity=1"], b"gravity"),
        (["--host", "192.0.2.1"], b"cannot listen on 192.0.2.1:0"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(options: list[str], said: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nadosim", *options], cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"nadosim: ")
    assert done.stderr.count(b"\n") == 1
    assert said in done.stderr


def test_trouble_while_it_runs_is_not_blamed_on_an_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def break_down(settings: Settings) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("nadosim.__main__.run", break_down)
    assert main([]) == 1
    assert "listen" not in capsys.readouterr().err


def test_a_process_takes_files_for_tls_and_a_regime(tmp_path: Path) -> None:
    with SimProcess(tls=True, regime="calm", seed=3) as sim:
        assert sim.ready["gateway"].startswith("https://")
        assert sim.ready["certificate"].startswith("-----BEGIN CERTIFICATE-----")
        assert "PRIVATE" not in sim.ready["certificate"]
