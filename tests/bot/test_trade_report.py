"""The report: exact sums from the trades file, a page that needs no network, and clear refusals."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from bot import htmlreport, tradefile
from bot.cli import main
from bot.commands import trades_files
from bot.metrics import COLUMNS
from bot.steps import STOP_REQUESTED
from bot.tradecsv import companion
from bot.tradefile import TradeFileError


def row(**values: object) -> dict[str, str]:
    return dict.fromkeys(COLUMNS, "") | {name: str(value) for name, value in values.items()}


def trades_file(path: Path, rows: list[dict[str, str]]) -> Path:
    lines = [",".join(COLUMNS), *(",".join(one[name] for name in COLUMNS) for one in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def leg(cycle: int, side: str, price: str, fee: str, **more: object) -> dict[str, str]:
    return row(
        exchange="nado", timestamp=f"2026-11-24T17:32:{cycle:02d}.000+00:00", side=side, price=price,
        quantity="0.05", fee_usd=fee, cycle_id=cycle, direction="BUY_FIRST", symbol="ETH-PERP",
        purpose="entry" if side == "buy" else "exit-rest", is_maker="false", sent_to_fill_ms="33.5",
        cycle_skipped="false", **more,
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return trades_file(
        tmp_path / "trades.csv",
        [
            leg(1, "buy", "3000.1", "0.044116910918821587"),
            leg(
                1, "sell", "3000.2", "0.000000000000000001", pnl_no_fee="0.005",
                pnl_with_fee="-0.039116910918821588", balance_change_usd="-0.039116910918821588",
                cycle_s="1.5", unhedged_ms="20", maker_share_pct="100.0", fee_saved_usd="0.03",
                worst_net_delta_bps="0.5", leg_gap_write_ms="0.01", leg_gap_fill_ms="1.5",
            ),
            row(
                timestamp="2026-11-24T17:33:00.000+00:00", cycle_id=2, direction="SELL_FIRST",
                cycle_skipped="true", failure="book of <b>ETH</b> is not valid", pnl_with_fee="0",
            ),
        ],
    )  # fmt: skip


def test_sums_are_exact_to_the_last_digit(path: Path) -> None:
    sums = htmlreport.totals(tradefile.read([path]))
    assert sums.fees_usd == Decimal("0.044116910918821588")
    assert sums.net_usd == sums.gross_usd - sums.fees_usd == Decimal("-0.039116910918821588")
    assert sums.volume_usd == Decimal("0.05") * Decimal("6000.3")
    assert (sums.cycles, sums.complete, sums.skipped, sums.failed) == (2, 1, 1, 0)
    assert sums.balance_change_usd == sums.net_usd


def test_several_files_are_one_story(path: Path) -> None:
    sums = htmlreport.totals(tradefile.read([path, path]))
    assert (sums.cycles, sums.net_usd) == (4, 2 * Decimal("-0.039116910918821588"))


def test_the_terminal_says_the_same_sums(path: Path) -> None:
    lines = htmlreport.summary_lines(tradefile.read([path]))
    text = "\n".join(lines)
    for part in (
        "2: 1 complete, 0 failed, 0 cut short, 1 skipped",
        "-0.0441 USD",
        "net       -0.0391",
        "balances: equal",
    ):
        assert part in text


HEAD = b"timestamp,side,price,quantity,fee_usd,pnl_with_fee,cycle_id"
WATCHED = """timestamp,seconds,looks,fresh_looks,cycles,fills,halts,link_losses,worst_age_ms,worst_age_symbol
2026-11-24T17:35:00.000+00:00,300.0,600,597,3,12,0,1,812.5,ETH-PERP
2026-11-25T00:01:00.000+00:00,60.0,120,120,1,4,1,0,,
"""


def test_how_it_was_watched_stands_beside_the_sums(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = path.with_name("page.html")
    assert main(["report", str(path), "--out", str(page)]) == 0
    assert "\nwatched " not in capsys.readouterr().out
    assert "<h2>Watched</h2>" not in page.read_text(encoding="utf-8")

    path.with_name("trades-watch.csv").write_text(WATCHED, encoding="utf-8")
    files = [str(one) for one in sorted(path.parent.glob("*.csv"))]
    assert main(["report", *files, "--out", str(page)]) == 0
    said = "watched   0.10 h: fresh data 99.58 %, 1 halts, 1 links lost, oldest price 812 ms (ETH-PERP)"
    assert said in capsys.readouterr().out
    rows = re.findall(r"<tr><td>(2026.*?)</td></tr>", page.read_text(encoding="utf-8"))
    assert [one.split("</td><td>") for one in rows] == [
        ["2026-11-24", "0.08", "99.50", "3", "12", "0", "1", "812 ms (ETH-PERP)"],
        ["2026-11-25", "0.02", "100.00", "1", "4", "1", "0", "none"],
    ]
    assert main(["report", *files, "--json"]) == 0
    watched = json.loads(capsys.readouterr().out)["watched"]
    assert (watched["looks"], watched["fresh"], watched["halts"]) == (720, 717, 1)

    for torn in ("now,1\n", "2026-11-25T00:10:00.000+00:00,300.0,300,300,1,4,0,0,81"):
        path.with_name("trades-watch.csv").write_text(WATCHED + torn, encoding="utf-8")
        assert main(["report", *files, "--out", str(page)]) == 0
        said = capsys.readouterr()
        assert "trades-watch.csv: row 4" in said.err
        assert "\nwatched " not in said.out
        assert "<h2>Watched</h2>" not in page.read_text(encoding="utf-8")


def test_a_directory_of_runs_is_reported_whatever_lies_beside_the_trades(path: Path) -> None:
    """`runs/*.csv`, as the manual has it; a strategy may have exported its metrics there."""
    for what in ("positions", "spread", "metrics", "watch", "export"):
        companion(path, what).write_text("other,columns\n")
    assert trades_files(sorted(path.parent.glob("*.csv"))) == [path]


def test_a_cycle_that_a_person_ended_has_not_failed(tmp_path: Path) -> None:
    """As the run itself counts it."""
    stopped = leg(1, "buy", "3000.1", "0.01", failure=STOP_REQUESTED, pnl_with_fee="-0.01")
    sums = htmlreport.totals(tradefile.read([trades_file(tmp_path / "t.csv", [stopped])]))
    assert (sums.complete, sums.failed, sums.cut_short) == (0, 0, 1)


def test_a_difference_to_the_exchange_is_said_out_loud(path: Path) -> None:
    cycles = tradefile.read([path])
    assert cycles[0].balance_change_usd is not None
    cycles[0].balance_change_usd += Decimal("1e-18")
    assert any("NOT equal" in line for line in htmlreport.summary_lines(cycles))


def test_the_page_is_whole_needs_no_network_and_escapes_what_it_quotes(path: Path) -> None:
    page = htmlreport.render(tradefile.read([path]), "run <1>")
    outside = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.replace(htmlreport.get_plotlyjs(), ""))
    assert outside == []
    assert "run &lt;1&gt;" in page
    assert "&lt;b&gt;ETH&lt;/b&gt;" in page
    assert "<b>ETH</b>" not in page
    assert page.count('class="plot"') == len(htmlreport.PLOTS)
    assert "-0.0391" in page


def test_nothing_to_report_is_an_error_not_an_empty_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no cycle"):
        htmlreport.render(tradefile.read([trades_file(tmp_path / "t.csv", [])]), "x")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1,2\n", "column timestamp is missing"),
        (b"", "column timestamp is missing"),
        (b"\xff\xfe\x00", "no CSV file"),
        (b"timestamp,side,price,quantity,fee_usd,pnl_with_fee,cycle_id\nnow,buy,1,1,0,,1\n", "row 2"),
        (b"timestamp,side,price,quantity,fee_usd,pnl_with_fee,cycle_id\n2026-01-01,buy,x,1,0,,1\n", "row 2"),
        (b"timestamp,side,price,quantity,fee_usd,pnl_with_fee,cycle_id\n2026-01-01,buy\n", "row 2"),
        (HEAD + b",failure\n2026-01-01,buy,1,1,0,-1,1,\n2026-01-01,buy,1,1,0,-1,2", "row 3 .* torn"),
        (HEAD + b"\n2026-01-01,buy,1,1,0,-1,1,2026-01-01,buy,1,1,0,-1,1\n", "row 2 .* torn"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_place(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(TradeFileError, match=reason) as caught:
        tradefile.read([path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("price", "nan"), ("price", "1e999999"), ("quantity", "-inf"), ("fee_usd", "sNaN"),
        ("pnl_with_fee", "nan"), ("cycle_s", "nan"), ("cycle_s", "inf"), ("side", "hold"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_no_sum(path: Path, name: str, value: str) -> None:
    odd = leg(1, "buy", "3000.1", "0.01", pnl_with_fee="-0.01") | {name: value}
    with pytest.raises(TradeFileError, match="row 2 cannot be read"):
        tradefile.read([trades_file(path, [odd])])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TradeFileError, match="No such file"):
        tradefile.read([tmp_path / "none.csv"])


def test_what_price_and_fees_do_not_explain_is_funding(tmp_path: Path) -> None:
    """The trades file names it nowhere: net is price, less fees, less the funding paid."""
    paid = leg(1, "sell", "3000.2", "0.01", pnl_no_fee="0.05", pnl_with_fee="0.037000000000000001")
    (cycle,) = tradefile.read([trades_file(tmp_path / "t.csv", [paid])])
    assert cycle.funding_usd == Decimal("-0.002999999999999999")
    sums = htmlreport.totals([cycle])
    assert sums.net_usd == sums.gross_usd - sums.fees_usd + sums.funding_usd
