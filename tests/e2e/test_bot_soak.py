"""The whole bot for a long time, a fault every few seconds: it goes on trading, ends flat, nothing leaks.

`make long SUITE=bot_soak` runs thirty minutes of it (`NADOFAST_SOAK_S`), and prints memory, tasks and open
files by minute, the uptime, and how often each fault struck.
"""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botproc import BotProcess, end_exchange, fault, positions, resting, state
from prometheus_client.parser import text_string_to_metric_families

SOAK_S = float(os.environ.get("NADOFAST_SOAK_S", "1800"))
SEED = 31
FAULT_EVERY_S = (2.0, 6.0)
LOOK_EVERY_S = 2.0
CLEAR_EVERY_S = 15.0
WARM_UP_SHARE = 0.15
# Beside noise memory may grow by what is kept on purpose: records of 10,000 orders, figures of every cycle.
NOISE_MIB = 3.0
KEPT_KIB_A_CYCLE = 24.0

# What a bot is to live through. Not here: what it is right to stop for (a wrong chain id, a leg taken over,
# an exchange that stays away), each of which has a test of its own.
FAULTS: tuple[dict[str, Any], ...] = (
    {"cut": "all"},
    {"cut": {"scope": "subscribe", "how": "rst"}},
    {"cut": {"scope": "gateway", "how": "fin"}},
    {"half_open": "subscribe"},
    {"stall_read": {"scope": "gateway", "seconds": 0.4}},
    {"v2_refused": {"for_s": 2.0}, "cut": "gateway"},
    {"socket_refused": {"for_s": 1.5}, "cut": "all"},
    {"mute": {"for_s": 1.5, "scope": "subscribe"}},
    {"drop": {"count": 3, "scope": "subscribe"}},
    {"drop": {"count": 1, "kind": "fill", "scope": "subscribe"}},
    {"drop_depth": {"product_id": 4, "count": 2}},
    {"drop_depth": {"product_id": 8}},
    {"duplicate": {"probability": 0.5, "for_s": 2.0, "scope": "subscribe"}},
    {"reorder": {"count": 5, "scope": "subscribe"}},
    {"delay": {"ms": 80, "jitter_ms": 40, "for_s": 2.0}},
    {"batch": {"every_ms": 200, "for_s": 2.0, "scope": "subscribe"}},
    {"corrupt_json": {"count": 2, "scope": "subscribe"}},
    {"extra_fields": {"count": 5, "scope": "subscribe"}},
    {"swap_types": {"count": 5, "scope": "subscribe"}},
    {"truncated_frame": {"scope": "subscribe"}},
    {"bad_deflate": {"scope": "subscribe"}},
    {"deflate_bomb": {"scope": "subscribe"}},
    {"delay_request": {"ms": 120, "jitter_ms": 60, "for_s": 2.0}},
    {"lose_reply": 2},
    {"out_of_order": {"ms": 150, "count": 3}},
    {"rate_error": {"count": 2}},
    {"http_error": {"count": 3}},
    {"stale_snapshot": {"count": 2}},
    {"archive_lag": {"seconds": 1.0, "for_s": 3.0}},
    {"auth_refused": 1, "cut": "subscribe"},
    {"lose_ack": {"kind": "subscribe"}, "cut": "subscribe"},
    {"pause_market": {"for_s": 1.0}},
    {"maintenance": {"for_s": 0.8}},
    {"restart": {"for_s": 0.5, "orders": "kept"}},
    {"restart": {"for_s": 0.5, "orders": "wiped"}},
    {"funding": True},
)


@dataclass
class Life:
    """What is looked at every few seconds, of the bot and of its exchange."""

    bot_mib: list[float] = field(default_factory=list)
    exchange_mib: list[float] = field(default_factory=list)
    tasks: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    cycles: list[float] = field(default_factory=list)
    uptime: float = 0.0
    last: dict[str, float] = field(default_factory=dict)

    def look(self, url: str, exchange_pid: int) -> None:
        self.last = read(url)
        self.bot_mib.append(self.last["process_resident_memory_bytes"] / 2**20)
        self.tasks.append(self.last["nadofast_tasks"])
        self.files.append(self.last["process_open_fds"])
        self.cycles.append(self.last["nadofast_cycles_total"])
        self.uptime = self.last["nadofast_uptime_ratio"]
        pages = int(Path(f"/proc/{exchange_pid}/statm").read_text().split()[1])
        self.exchange_mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def minutes(self) -> list[str]:
        part = int(60 / LOOK_EVERY_S)
        return [
            f"minute {1 + i // part:>3}: bot {statistics.median(self.bot_mib[i : i + part]):6.1f} MiB,"
            f" exchange {statistics.median(self.exchange_mib[i : i + part]):6.1f} MiB,"
            f" at most {max(self.tasks[i : i + part]):.0f} tasks, {max(self.files[i : i + part]):.0f} files,"
            f" {self.cycles[min(i + part, len(self.cycles)) - 1]:.0f} cycles"
            for i in range(0, len(self.bot_mib), part)
        ]


def read(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=10) as page:
        text = page.read().decode()
    return {
        one.name + "".join(f" {value}" for value in one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def growth(values: list[float]) -> float:
    """Median of the last third minus that of the first, after the warm-up."""
    warm = values[int(len(values) * WARM_UP_SHARE) :]
    third = max(1, len(warm) // 3)
    return statistics.median(warm[-third:]) - statistics.median(warm[:third])


def bad_weather(bot: BotProcess, life: Life, seconds: float) -> Counter[str]:
    """Faults until the time is up; how often each struck."""
    rng, struck = random.Random(SEED), Counter[str]()
    url, control, exchange_pid = (
        bot.wait_for("metrics   ").split("metrics   ")[1],
        bot.control,
        bot.exchange_pid,
    )
    ends = time.monotonic() + seconds
    strike_at, clear_at = time.monotonic() + 5, time.monotonic() + CLEAR_EVERY_S
    while (now := time.monotonic()) < ends:
        assert bot.process.poll() is None, bot.output[-6000:] + bot.stderr
        if now >= strike_at:
            what = rng.choice(FAULTS)
            fault(control, **what)
            struck["+".join(what)] += 1
            strike_at = now + rng.uniform(*FAULT_EVERY_S)
        if now >= clear_at:
            fault(control, clear="all")
            clear_at = now + CLEAR_EVERY_S
        life.look(url, exchange_pid)
        time.sleep(max(0.0, now + LOOK_EVERY_S - time.monotonic()))
    fault(control, clear="all")
    return struck


@pytest.mark.long
def test_bot_soak(tmp_path: Path) -> None:
    life = Life()
    with BotProcess(
        tmp_path, "--cycles", "1000000", "--seed", str(SEED), exchange__linger_s=60, exchange__rate=150,
        exit__maker_timeout_s=1, metrics__port=0, run__max_skips=1000, risk__daily_loss_usd=50_000,
        output__state_dir=tmp_path / "state",
    ) as bot:  # fmt: skip
        struck = bad_weather(bot, life, SOAK_S)
        bot.signal(signal.SIGINT)
        code = bot.finish(timeout_s=120)
        truth, pid, output = state(bot.control), bot.exchange_pid, bot.output
    end_exchange(pid)
    print("\n" + "\n".join(life.minutes()))
    print(output[output.index("summary") :])
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(struck.items()))
    print(f"{sum(struck.values())} strikes of {len(struck)} kinds in {SOAK_S:.0f} s: {kinds}")
    told = ("link_losses", "book_gaps", "resyncs", "failovers", "lost_replies", "rate_errors", "parse_errors",
            "positions_taken_over")  # fmt: skip
    print(", ".join(f"{name} {life.last[f'nadofast_{name}_total']:.0f}" for name in told))
    print(f"uptime (share of time with fresh data): {life.uptime:.4f}")
    print(
        f"growth over {growth(life.cycles):.0f} cycles: bot {growth(life.bot_mib):+.1f} MiB"
        f" ({growth(life.bot_mib) * 1024 / max(1.0, growth(life.cycles)):.1f} KiB a cycle),"
        f" exchange {growth(life.exchange_mib):+.1f} MiB,"
        f" tasks {growth(life.tasks):+.0f}, files {growth(life.files):+.0f}"
    )
    assert code == 0, bot.stderr
    assert positions(truth) == {}
    assert resting(truth) == []
    assert "Traceback" not in output + bot.stderr
    assert not re.search(r"differs by", output)
    digests = [order["digest"] for order in truth["orders"]]
    assert len(digests) == len(set(digests))
    assert life.cycles[-1] > life.cycles[len(life.cycles) // 2], "it stopped trading"
    assert growth(life.bot_mib) < NOISE_MIB + growth(life.cycles) * KEPT_KIB_A_CYCLE / 1024
    assert growth(life.tasks) <= 3
    assert growth(life.files) <= 3
