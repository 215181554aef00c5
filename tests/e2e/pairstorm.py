"""The bot over real sockets in a storm: an exchange that stays, bots that are killed and started again, and a
fault every few tenths of a second from the moment one trades. The judge is the exchange's own record.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botproc import BotProcess, fault, positions, resting, state
from simproc import SimProcess

SYMBOLS = {"4": "ETH-PERP", "8": "SOL-PERP"}
MAX_LEG_X18 = 150 * 10**18
TOLERANCE_PER_MILLE = 1_005
HEDGED_WITHIN = 0.1
CYCLES_A_LIFE = 5
LIFE_DEADLINE_S = 120.0
MAX_LIVES = 40
CYCLE_LINE = re.compile(r"^cycle \d+ \S+ (complete|failed|cut short|skipped)")
# A tenth of the defaults, but for what the exchange's own pace sets: its 30 ms, restarts of half a second.
TENTHS: dict[str, object] = {
    "run__hold_s": 0.05, "run__ready_timeout_s": 10, "run__max_skips": 50,
    "entry__leg_deadline_s": 0.3, "exit__maker_timeout_s": 0.3,
    "exit__reprice_ms": 40, "exit__deadline_s": 1, "risk__max_quote_age_s": 0.5, "risk__max_blind_s": 3,
    "risk__max_orders_per_min": 0, "risk__max_builds_per_min": 0,
}  # fmt: skip
LATE_NS = 2_000_000_000  # what a dead bot has sent may still fill so long
SCOPES = ("all", "subscribe", "gateway")
REFUSALS = (2000, 2006, 2008, 2056, 5000)


def pick(rng: random.Random, subaccount: str) -> tuple[str, dict[str, Any]]:
    """A kind of fault, and the request for it. No request: the harness does it."""
    kinds: dict[str, dict[str, Any]] = {
        "cut": {"cut": {"scope": rng.choice(SCOPES), "how": rng.choice(("fin", "rst"))}},
        "mute": {"mute": rng.uniform(0.1, 0.6)},
        "gap": {"drop_depth": {"product_id": rng.choice((4, 8)), "count": 1}},
        "lost answer": {"lose_reply": rng.randint(1, 2)},
        "reject": {"refuse": {"code": rng.choice(REFUSALS), "kind": "place_order", "count": 2}},
        "dead leg": {"refuse": {"code": 2006, "kind": "place_order", "skip": 1, "count": rng.randint(1, 4)}},
        "rate error": {"rate_error": {"kind": "place_order", "count": rng.randint(1, 2)}},
        "http error": {"http_error": {"count": rng.randint(1, 3)}},
        "archive lag": {"archive_lag": {"seconds": 0.5, "for_s": 2}},
        "delay": {"delay": {"ms": 20, "jitter_ms": 60, "for_s": 0.5}},
        "duplicate": {"duplicate": {"kind": "fill", "count": 2}},
        "out of order": {"out_of_order": 80},
        "exchange restart": {"restart": {"for_s": 0.3, "orders": rng.choice(("kept", "wiped"))}},
        "liquidation": {"liquidate": {"subaccount": subaccount, "product_id": rng.choice((4, 8))}},
        "kill -9": {},
    }  # fmt: skip
    kind = rng.choice(list(kinds))
    return kind, kinds[kind]


@dataclass
class Storm:
    """One seed: `run()` until so many cycles have ended. struck, ends, ledgers: what happened how often."""

    seed: int
    path: Path
    wanted: int
    cycles: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    ledgers: Counter[str] = field(default_factory=Counter)
    gaps_s: list[float] = field(default_factory=list)
    dead_gaps_s: list[float] = field(default_factory=list)
    orders: int = 0
    beyond: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.kills_ns: list[int] = []
        self.known: list[
            tuple[int, int]
        ] = []  # when a product was taken over; 0: when all was seen to be flat
        self.said: list[str] = []

    def run(self) -> None:
        """AssertionError names the seed and shows the last life."""
        regime = self.rng.choice(("lively", "jumpy", "thin"))
        with SimProcess(seed=self.seed, rate_limits=False, regime=regime) as sim:
            self.sim, self.control = sim, str(sim.ready["control"])
            self.subaccount = str(sim.ready["accounts"][0]["subaccount"])
            self.file = self.path / f"exchange-{self.seed}.json"
            self.file.write_text(json.dumps(sim.ready))
            choice = "refuse"
            for life in range(MAX_LIVES):
                choice = self._life(life, choice)
                if self.cycles.total() >= self.wanted and choice == "refuse":
                    break
            else:
                raise AssertionError(f"seed {self.seed}: not done after {MAX_LIVES} lives\n{self._tail()}")
            self._judge(state(self.control))

    def _life(self, number: int, choice: str) -> str:
        """One bot from start to end; what the next one shall do about what it finds."""
        directory = self.path / f"{self.seed}-{number}"
        directory.mkdir()
        left = max(1, min(CYCLES_A_LIFE, self.wanted - self.cycles.total()))
        with BotProcess(
            directory, "--exchange", str(self.file), "--cycles", str(left), "--on-open", choice,
            output__state_dir=self.path / f"state-{self.seed}", **TENTHS,
        ) as bot:  # fmt: skip
            was_killed, was_seized = self._trouble(bot)
            code = bot.finish(LIFE_DEADLINE_S)
            self.said = [*bot.lines, bot.stderr]
        found = list(filter(None, map(CYCLE_LINE.match, bot.lines)))
        self.cycles.update(one[1] for one in found)
        fault(self.control, clear="all")
        if was_killed:
            self.ends["killed"] += 1
            return self.rng.choice(("adopt", "finish", "flatten"))
        has_traded = any("  ready  " in line for line in bot.lines)
        if not has_traded:
            self.ends["did not start"] += 1
            return "flatten" if choice == "refuse" else choice
        self.ends[f"exit {code}"] += 1
        self._check_end(bot, code, was_seized)
        return "flatten" if code == 4 else "refuse"

    def _trouble(self, bot: BotProcess) -> tuple[bool, bool]:
        """Strike until the bot has ended; whether it was killed, and whether a leg was taken from it."""
        was_seized, until_s = False, time.monotonic() + LIFE_DEADLINE_S
        while time.monotonic() < until_s:
            try:
                bot.process.wait(self.rng.uniform(0.15, 0.7))
                break
            except subprocess.TimeoutExpired:
                if not any("  ready  " in line for line in bot.lines):
                    continue
            kind, request = pick(self.rng, self.subaccount)
            if kind == "kill -9":
                bot.process.send_signal(signal.SIGKILL)
                self.struck[kind] += 1
                self.kills_ns.append(time.time_ns())
                return True, was_seized
            if kind == "liquidation":
                product_id = request["liquidate"]["product_id"]
                held = state(self.control)["balances"]["subaccounts"].get(self.subaccount, {"perps": {}})
                if not int(held["perps"].get(str(product_id), {"amount": 0})["amount"]):
                    continue
                was_seized = True
            fault(self.control, **request)
            if kind == "liquidation":
                self.known.append((time.time_ns(), product_id))
            self.struck[kind] += 1
        return False, was_seized

    def _check_end(self, bot: BotProcess, code: int, was_seized: bool) -> None:
        """Flat by the exchange's record, or every position named; the money the same to the last unit."""
        truth = state(self.control)
        held, what = positions(truth), f"seed {self.seed}: exit {code}"
        assert "Traceback" not in bot.stderr + bot.output, f"{what}\n{self._tail()}"
        if code == 4:
            for key in held:
                assert SYMBOLS[key.rpartition(" ")[2]] in bot.stderr, f"{what}: {held}\n{self._tail()}"
            self.ledgers["not asked: exposed"] += 1
            return
        assert not held, f"{what}: {held}\n{self._tail()}"
        self.known.append((time.time_ns(), 0))
        assert not resting(truth), f"{what}: {resting(truth)}\n{self._tail()}"
        verdict = next((line for line in bot.lines if "exchange balance" in line and "ledger" in line), "")
        if "equal to the ledger to the last unit" in verdict:
            self.ledgers["equal to the last unit"] += 1
        elif was_seized:
            self.ledgers["differs by what the exchange took"] += 1
        else:
            off = [line for line in bot.lines if "off by" in line]
            assert not off, f"{what}: {off}\n{self._tail()}"
            self.ledgers["not asked: balance not read"] += 1

    def _tail(self) -> str:
        return "\n".join(self.said[-40:])

    # ------------------------------------------------------------------ the whole record

    def _judge(self, truth: dict[str, Any]) -> None:
        """Positions from the fills, in the order of the engine: what each order met that filled, and how long
        one leg stood alone. From a takeover to the next flat moment positions are not known that well."""
        moves: list[tuple[int, int, dict[str, Any] | None]] = [
            (int(fill["timestamp"]), fill["product_id"], fill) for fill in truth["fills"]
        ]
        moves += [(at_ns, product_id, None) for at_ns, product_id in self.known]
        held, prices = {4: 0, 8: 0}, {4: 0, 8: 0}
        orders = {order["digest"]: order for order in truth["orders"]}
        self.orders, since_ns, is_sure = len(orders), 0, True
        for at_ns, product_id, fill in sorted(moves, key=lambda move: move[0]):
            order = None if fill is None else orders.pop(fill["digest"], None)
            if order is not None and is_sure:  # its first fill: what it met
                self._judge_order(order, held)
            if fill is not None:
                held[product_id] += int(fill["base"])
                prices[product_id] = int(fill["price_x18"])
            elif product_id:
                held[product_id], is_sure = 0, False
            else:
                held, is_sure = {4: 0, 8: 0}, True
            since_ns = self._gap(at_ns, since_ns, [held[p] * prices[p] for p in (4, 8)])

    def _gap(self, at_ns: int, since_ns: int, notionals: Sequence[int]) -> int:
        """Opens or closes a stretch on one leg; when it began, 0 for none."""
        gross, net = sum(map(abs, notionals)), abs(sum(notionals))
        is_open = net > 10**36 and net > gross * HEDGED_WITHIN
        if is_open or not since_ns:
            return (since_ns or at_ns) if is_open else 0
        was_killed = any(since_ns - LATE_NS <= killed_ns <= at_ns for killed_ns in self.kills_ns)
        (self.dead_gaps_s if was_killed else self.gaps_s).append((at_ns - since_ns) / 1e9)
        return 0

    def _judge_order(self, order: dict[str, Any], held: dict[int, int]) -> None:
        if order["order_type"] != "ioc" or order["reduce_only"]:
            return
        worst_x18 = abs(held[order["product_id"]] + int(order["amount"])) * int(order["price_x18"]) // 10**18
        if worst_x18 * 1_000 > MAX_LEG_X18 * TOLERANCE_PER_MILLE:
            self.beyond.append(f"seed {self.seed}: an entry of {order['amount']} makes {worst_x18}")


def lines(storms: Iterable[Storm]) -> list[str]:
    """One table of all seeds."""
    storms = list(storms)

    def total(name: str) -> Counter[str]:
        return sum((getattr(storm, name) for storm in storms), Counter())

    def spread(gaps_s: list[float]) -> str:
        ordered = sorted(gaps_s) or [0.0]
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99, 1.0)]
        return f"{len(gaps_s)}; p50 {at[0]:.2f} s, p99 {at[1]:.2f} s, max {at[2]:.2f} s"

    cycles = total("cycles")
    return [
        f"{len(storms)} seeds, {cycles.total()} cycles: "
        + ", ".join(f"{name} {count}" for name, count in sorted(cycles.items())),
        "bots: " + ", ".join(f"{name} {count}" for name, count in sorted(total("ends").items())),
        "ledger: " + ", ".join(f"{name} {count}" for name, count in sorted(total("ledgers").items())),
        f"orders {sum(storm.orders for storm in storms)}, beyond a limit when they came"
        f" {sum(len(storm.beyond) for storm in storms)}",
        "on one leg: " + spread([gap for storm in storms for gap in storm.gaps_s]),
        "on one leg across a kill: " + spread([gap for storm in storms for gap in storm.dead_gaps_s]),
        "faults: " + ", ".join(f"{name} {count}" for name, count in sorted(total("struck").items())),
    ]
