"""Mutants of the order code made by hand: each takes away one promise. As a plugin it loads the one that
NADOFAST_MUTANT names in place of its module.

    NADOFAST_MUTANT=gap_ignored PYTHONPATH=tests/mutation python -m pytest -p handmade -x tests/client/…
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
VARIABLE: Final = "NADOFAST_MUTANT"


@dataclass(frozen=True, slots=True)
class HandMade:
    """`old` stands once in the file and is replaced by `new`. tests: that have to notice."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """Of the mutated module. Raises ValueError when the promise is no longer where it was."""
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {self.old!r} {text.count(self.old)} times")
        return text.replace(self.old, self.new)


DOUBT, TRACKER = "tests/client/test_doubt.py", "tests/client/test_order_tracker.py"
MUTANTS: Final = {
    "discard_time_ignored": HandMade(
        "nadofast/resolver.py",
        "return record is not None and self._is_over(nonce_recv_time_ms(record.nonce))",
        "return False",
        (DOUBT,),
    ),
    "withdrawn_order_resent": HandMade(
        "nadofast/delivery.py", "if flight.request.is_order and flight.is_withdrawn:", "if False:", (DOUBT,)
    ),
    "duplicate_taken_for_yes": HandMade(
        "nadofast/outcome.py",
        'return Verdict(OutcomeKind.UNKNOWN, code, "the exchange has seen this digest before")',
        'return Verdict(OutcomeKind.CONFIRMED, code, "the exchange has seen this digest before")',
        (DOUBT,),
    ),
    "ends_never_reopened": HandMade(
        "bot/journal.py",
        'if end["at_ms"] < since_ms or end["state"] == OrderState.DENIED.value  # it never left',
        "if True",
        ("tests/orders/test_order_journal.py",),
    ),
    "gap_ignored": HandMade(
        "nadofast/orders.py",
        "for order in (self._unsettled | self._recent).values():",
        "for order in ():",
        (TRACKER,),
    ),
    "refusal_of_a_second_copy_believed": HandMade(
        "nadofast/outcome.py",
        "if is_resend or code is None or code in wire.Code.INTERNAL:",
        "if code is None or code in wire.Code.INTERNAL:",
        (DOUBT,),
    ),
    "absence_before_the_discard_time_believed": HandMade(
        "nadofast/resolver.py",
        "if is_over and self._completeness is not None:\n            gone_ms",
        "if self._completeness is not None:\n            gone_ms",
        (DOUBT, "tests/client/test_absence.py"),
    ),
    "fills_counted_twice": HandMade(
        "nadofast/orders.py",
        "if order is None or fill.submission_idx in order._fill_keys:",
        "if order is None:",
        (TRACKER,),
    ),
    "sent_while_stopping": HandMade(
        "nadofast/delivery.py", "if flight.request.is_order and self.is_stopped:", "if False:", (DOUBT,)
    ),
    "not_journalled_before_sending": HandMade(
        "nadofast/gateway.py",
        "                    self._before_send(record)",
        "                    pass",
        ("tests/client/test_live_gateway.py",),
    ),
    "legs_not_journalled_before_sending": HandMade(
        "nadofast/gateway.py",
        "                self._journal(records)",
        "                pass",
        ("tests/client/test_live_gateway.py",),
    ),
    "half_of_the_legs_journalled": HandMade(
        "bot/journal.py",
        "os.ftruncate(self._fd, self._size)\n            raise",
        "pass\n            raise",
        ("tests/orders/test_order_journal.py",),
    ),
    "reserve_spent_by_entries": HandMade(
        "nadofast/ratelimit.py",
        "allowed = spent.window.limit - (0 if urgent else spent.window.reserve)\n            wait",
        "allowed = spent.window.limit\n            wait",
        ("tests/client/test_order_promises.py",),
    ),
    "second_copy_revives_nothing": HandMade(
        "nadofast/orders.py",
        "            order._was_resent = True\n            self._file(order)",
        "            self._file(order)",
        (TRACKER, DOUBT),
    ),
    "stale_leg_sent": HandMade(
        "nadofast/presign.py",
        "if not 0 <= late_ms <= self._slack_ms:",
        "if late_ms > self._slack_ms:",
        ("tests/client/test_presign.py",),
    ),
    "leg_of_another_price_sent": HandMade(
        "nadofast/presign.py",
        "    return _content(signed) == _content(wanted)",
        "    return True",
        ("tests/client/test_presign.py",),
    ),
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, mutant: HandMade) -> None:
        self._mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._mutant.module:
            return None
        return importlib.util.spec_from_loader(name, self, origin=str(ROOT / self._mutant.file))

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.source(), str(ROOT / self._mutant.file), "exec"), module.__dict__)  # noqa: S102


if VARIABLE in os.environ:
    sys.meta_path.insert(0, _Finder(MUTANTS[os.environ[VARIABLE]]))
