"""What outlives a run: one private directory per network, subaccount and exchange instance, locked in use.

state/mainnet-0x1234abcd-9f3c01ab77de/   0700
    lock         held by the running bot, with its pid and when it began
    about.json   which network, subaccount and exchange this is
    halt.json    the kill switch, while it is on
    day.json     the result of the UTC day so far
    orders.log   the journal of orders
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
CHILD: Final = "child"
KEPT_CHILDREN: Final = 8
LOOKS_S: Final = 0.2
LOOK_PAUSE_S: Final = 0.01


class StateDirError(Exception):
    """The directory cannot be used; the text says why in one line."""


def directory_name(*, network: str, chain_id: int, subaccount: str, instance: str) -> str:
    """Short enough for a socket's path inside; everything that tells two accounts apart is in the hash."""
    identity = f"{network}\n{chain_id}\n{subaccount.lower()}\n{instance}"
    return f"{network}-{subaccount[:10].lower()}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


class StateDir:
    """The open directory; `close` lets go of the lock. Raises StateDirError."""

    def __init__(
        self,
        root: Path,
        *,
        network: str,
        chain_id: int,
        subaccount: str,
        instance: str,
        must_write: bool = True,
    ) -> None:
        """instance: what tells this exchange from another one with the same chain, such as its address.
        must_write: False where a full disk is no reason to stay out; the lock is taken all the same."""
        about = {"network": network, "chain_id": chain_id, "subaccount": subaccount, "instance": instance}
        name = directory_name(
            network=network, chain_id=chain_id, subaccount=subaccount, instance=instance
        )  # fmt: skip
        self.path = root / name
        self._lock_fd = -1
        try:
            self.path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            if self.path.stat().st_uid != os.geteuid():
                raise StateDirError(f"{self.path} belongs to another user")
            self.path.chmod(_DIRECTORY_MODE)
            self._lock_fd = self._lock()
            with contextlib.suppress(*(() if must_write else (OSError,))):
                os.ftruncate(self._lock_fd, 0)
                os.pwrite(self._lock_fd, f"{os.getpid()} {start_ticks(os.getpid())}\n".encode(), 0)
                write_json(self.path / "about.json", about)
        except OSError as error:
            self.close()
            raise StateDirError(f"{self.path}: {error.strerror or error}") from None

    @property
    def halt_path(self) -> Path:
        return self.path / "halt.json"

    @property
    def day_path(self) -> Path:
        return self.path / "day.json"

    @property
    def journal_path(self) -> Path:
        return self.path / "orders.log"

    def close(self) -> None:
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> int:
        path = lock_path(self.path)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
        deadline_s = time.monotonic() + LOOKS_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline_s:
                    time.sleep(LOOK_PAUSE_S)  # a look of `is_in_use` is over in no time, and is no bot
                    continue
                holder = os.pread(fd, 64, 0).decode(errors="replace").split()
                os.close(fd)
                pid = holder[0] if holder else "?"
                raise StateDirError(f"another bot (pid {pid}) trades on this subaccount") from None
            return fd


def lock_path(directory: Path) -> Path:
    """The file that a running bot holds; it says its process id and when that process began."""
    return directory / "lock"


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def can_be_used(root: Path) -> bool:
    """Whether directories can be made in it."""
    try:
        root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(root, os.W_OK | os.X_OK)


def why_not_writable(path: Path) -> str:
    """Why a file or directory cannot be written or made there; "" if it can, as far as one can tell."""
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if existing != path and not existing.is_dir():
        return f"{existing} is not a directory"
    return "" if os.access(existing, os.W_OK) else "not writable"


def is_in_use(path: Path) -> bool:
    """Whether a bot holds the lock of this directory."""
    try:
        fd = os.open(lock_path(path), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who looks is no bot to another
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def child_instance(pid: int | None) -> str:
    """Of an embedded exchange that lives as long as its bot."""
    return f"{CHILD} {pid}"


def prune(root: Path, *, keep: int = KEPT_CHILDREN) -> None:
    """Take away what embedded exchanges of former runs have left, but for the newest `keep`.

    Such an exchange is gone for good, so nothing can be resumed there. A directory in use is left alone.
    """
    found = []
    for path in root.glob("sim-*"):
        with contextlib.suppress(OSError, ValueError):
            about = read_json(path / "about.json") or {}
            if str(about.get("instance", "")).startswith(f"{CHILD} "):
                found.append((path.stat().st_mtime, path))
    for _, path in sorted(found, reverse=True)[keep:]:
        with contextlib.suppress(OSError):
            if not is_in_use(path):
                shutil.rmtree(path)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the file whole: a kill leaves the old one or the new one. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
    with os.fdopen(fd, "wb") as opened:  # all of it or an error: a full disk may take a part
        opened.write(json.dumps(document).encode() + b"\n")
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote; None if there is no file. Raises ValueError when it is not that, OSError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def remove(path: Path) -> bool:
    """Take a file away; whether there was one. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        return True
    return False
