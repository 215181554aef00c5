"""What a start keeps on disk, opened: the account's own directory, the day's result, the journal of orders, a
recording.

A run refuses to begin where one of them cannot be used. A start that only closes (`say` given) says so and
goes on with an empty one in a temporary directory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from nadofast.timesync import TimeSync

from . import statedir
from .config import Settings, SettingsError
from .exchange_process import Ready
from .journal import Fsync, Journal, JournalConfig, JournalError
from .latch import DayFile
from .ledger import Ledger
from .logs import EventLog
from .market import Market
from .preflight import StartError
from .recording import Recording
from .standing import Standing
from .statedir import StateDir, StateDirError
from .venue import Venue

TEMPORARY: Final = "nadofast-bot-"
Say = Callable[[str], None]


def open_state(
    settings: Settings,
    subaccount: str,
    ready: Ready,
    stack: AsyncExitStack,
    venue: Venue,
    say: Say | None,
) -> StateDir:
    """The account's own directory, locked until the end. Raises SettingsError.

    What is kept about an embedded exchange is worth nothing after it: where nothing can be kept, a temporary
    directory does. So it does for a start that only closes, unless another bot holds the real one.
    """
    network, root = ready.network, settings.output.state_dir
    if venue.is_embedded and not statedir.can_be_used(root):
        root = Path(stack.enter_context(TemporaryDirectory(prefix=TEMPORARY)))
    statedir.prune(root)
    name, chain_id, instance = network.name, network.chain_id, venue.exchange.instance

    def make(root: Path) -> StateDir:
        return StateDir(
            root, network=name, chain_id=chain_id, subaccount=subaccount, instance=instance,
            must_write=say is None,
        )  # fmt: skip

    try:
        state = make(root)
    except StateDirError as error:
        own = statedir.directory_name(
            network=name, chain_id=chain_id, subaccount=subaccount, instance=instance
        )  # fmt: skip
        if say is None or statedir.is_in_use(root / own):
            raise SettingsError(f"output.state_dir: {error}") from None
        say(f"output.state_dir: {error}")
        state = make(Path(stack.enter_context(TemporaryDirectory(prefix=TEMPORARY))))
    stack.callback(state.close)
    return state


def open_standing(
    ledger: Ledger, market: Market, timesync: TimeSync, state: StateDir, say: Say | None
) -> Standing:
    day_file = DayFile(state.day_path)
    try:
        return Standing(ledger, market, timesync=timesync, day_store=day_file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{state.day_path}: not the day's result ({type(error).__name__})"
        if say is None:
            raise StartError(text) from None
        say(text)
        return Standing(ledger, market, timesync=timesync)  # the file stays as it is


def open_journal(
    settings: Settings, state: StateDir, account: str, stack: AsyncExitStack, recording: Recording | None
) -> Journal:
    """The journal of this account on this exchange. Raises SettingsError."""
    path = settings.output.journal or state.journal_path
    try:
        config = JournalConfig(fsync=Fsync(settings.output.journal_fsync))
        make = Journal if recording is None else recording.journal
        journal = make(path, account=account, config=config)
    except JournalError as error:
        raise SettingsError(f"output.journal: {error}") from None
    stack.callback(journal.close)
    return journal


def journal_if_possible(
    settings: Settings, state: StateDir, account: str, stack: AsyncExitStack, say: Say
) -> Journal:
    """For a start that only closes: one that cannot be used is left alone, and an empty one does."""
    path = settings.output.journal or state.journal_path
    try:
        journal = Journal(path, account=account, must_write=False)
    except (JournalError, OSError) as error:
        say(f"output.journal: {error}")
        path = Path(stack.enter_context(TemporaryDirectory(prefix=TEMPORARY))) / "orders.log"
        journal = Journal(path, account=account, must_write=False)
    stack.callback(journal.close)
    return journal


def open_recording(settings: Settings, stack: AsyncExitStack, log: EventLog) -> Recording | None:
    """Of the whole run, if one is wanted. Raises SettingsError."""
    directory = settings.output.record_dir
    if directory is None:
        return None
    try:
        recording = Recording(directory)
    except OSError as error:
        raise SettingsError(f"output.record_dir: {directory}: {error.strerror}") from None
    stack.callback(recording.close)
    log.event(f"recording {recording.path}")
    return recording
