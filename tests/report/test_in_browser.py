"""The report's page in headless Chromium: all of it is drawn, the sums are said, the console stays silent."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from bot import htmlreport, tradefile
from bot.metrics import COLUMNS

pytestmark = pytest.mark.browser
DEADLINE_S = 120


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page as it stands after its scripts ran, and what they said on the console. No network."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("chromium is not installed; .ci/chromium installs it on Debian")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--enable-logging=stderr",
            "--v=0", "--virtual-time-budget=10000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout, re.findall(r":CONSOLE[(:]\d+\)?\] *(.*)", done.stderr)


def row(cycle: int, leg: int, *, is_exit: bool) -> dict[str, str]:
    is_buy = is_exit != (leg == 0)
    values: dict[str, object] = {
        "exchange": "nado", "timestamp": f"2026-11-24T17:{cycle:02d}:{20 * is_exit + leg:02d}.000+00:00",
        "side": "buy" if is_buy else "sell", "price": ("3000.1", "140.07")[leg],
        "quantity": ("0.05", "1.1")[leg], "fee_usd": "0.031", "cycle_id": cycle, "direction": "BUY_FIRST",
        "symbol": ("ETH-PERP", "SOL-PERP")[leg], "purpose": "exit-rest" if is_exit else "entry",
        "is_maker": str(is_exit).lower(), "sent_to_fill_ms": 30 + 5 * cycle + leg, "cycle_skipped": "false",
    }  # fmt: skip
    if is_exit and leg == 1:
        net = Decimal(f"0.0{cycle}") - Decimal("0.124")
        values |= {
            "exit_timestamp": f"2026-11-24T17:{cycle:02d}:21.000+00:00", "pnl_no_fee": f"0.0{cycle}",
            "pnl_with_fee": net, "balance_change_usd": net, "cycle_s": 1.5, "unhedged_ms": 90 * cycle,
            "maker_share_pct": 100.0, "fee_saved_usd": 0.03, "worst_net_delta_bps": f"0.{cycle}",
            "leg_gap_write_ms": f"0.0{cycle}", "leg_gap_fill_ms": f"{cycle}.5",
            "slippage_bps_entry": f"0.{cycle}", "slippage_bps_exit": f"-0.{cycle}",
        }  # fmt: skip
    return dict.fromkeys(COLUMNS, "") | {name: str(value) for name, value in values.items()}


@pytest.fixture
def cycles(tmp_path: Path) -> list[tradefile.Cycle]:
    rows = [row(c, leg, is_exit=x) for c in range(1, 7) for x in (False, True) for leg in (0, 1)]
    path = tmp_path / "trades.csv"
    lines = [",".join(COLUMNS), *(",".join(one[name] for name in COLUMNS) for one in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tradefile.read([path])


def test_the_page_draws_everything_and_the_console_is_silent(
    cycles: list[tradefile.Cycle], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(htmlreport.render(cycles, "six cycles"), encoding="utf-8")
    shown, console = opened(page, tmp_path / "profile")
    assert console == []
    body = shown[shown.index("<main") :]
    plots = body.split('class="plot"')[1:]
    assert len(plots) == len(htmlreport.PLOTS)
    assert all('class="main-svg"' in plot for plot in plots)
    assert all(re.search(r'class="(trace|point|points|boxes|lines|bars)', plot) for plot in plots)
    sums = htmlreport.totals(cycles)
    cards = re.findall(r'<div class="card"><b>(.*?)</b><span>(.*?)</span>', body)
    said = {html.unescape(label): value for value, label in cards}
    assert said["net, USD"] == f"{sums.net_usd:+.4f}" == "-0.5340"
    assert said["fees, USD"] == f"{-sums.fees_usd:+.4f}" == "-0.7440"
    assert said["price, USD"] == "+0.2100"
    assert said["net against exchange balance"] == "equal"
    assert body.count("<tr><td>") >= len(cycles)


def test_an_error_on_a_page_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><script>nothingOfThatName()</script>", encoding="utf-8")
    _, console = opened(page, tmp_path / "profile")
    assert any("nothingOfThatName" in line for line in console)
