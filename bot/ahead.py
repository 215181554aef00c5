"""The legs that would leave next, for the gateway to sign in idle time (`entry.sign_ahead_ms`)."""

from __future__ import annotations

from dataclasses import replace

from .building import flat
from .model import PairInputs, PairState, Phase, Plan, Send
from .risk import OrderIntent
from .unwinding import cycle_complete


def next_entry(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> tuple[OrderIntent, ...]:
    """What the machine would send if the pause before the next cycle ended now, or if the exchange confirmed
    now that the pair is flat; nothing while anything else has to come first.

    A guess: the decision is made anew, and what differs from it by then never leaves.
    """
    if state.phase is Phase.UNWINDING and state.is_verifying and not state.is_exposed:
        state, _ = cycle_complete(state, now_ns)
    if state.phase is not Phase.FLAT or state.end is not None or (plan.is_by_hand and state.wanted is None):
        return ()
    _, actions = flat(replace(state, not_before_ns=now_ns), inputs, plan, now_ns)
    return next((action.intents for action in actions if isinstance(action, Send)), ())
