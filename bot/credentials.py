"""Where the key comes from: the environment, a file only we can read, or an encrypted keystore. Exactly one.

A linked signer is the recommended key: the exchange lets it sign for the account named in
`account.owner_address`, and the owner can revoke it. What is wrong with a key is said, never what it is.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nadofast.errors import InvalidKey
from nadofast.secret import Secret, parse_private_key

from .config import AccountSection, SettingsError

KEY_VARIABLE: Final = "NADO_PRIVATE_KEY"
PASSWORD_VARIABLE: Final = "NADO_KEYSTORE_PASSWORD"
MAX_FILE_BYTES: Final = 64 * 1024
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """key: what signs; None where the embedded exchange's own account is used. owner_address: whom it signs
    for when that is not its own wallet. source: where the key was found, for people."""

    key: Secret | None
    owner_address: str | None
    source: str


def find(account: AccountSection, environ: Mapping[str, str] | None = None) -> Credentials:
    """The configured key. Raises SettingsError in one line if there are two, or one that cannot be used."""
    environ = os.environ if environ is None else environ
    sources = [
        name
        for name, value in (
            (KEY_VARIABLE, environ.get(KEY_VARIABLE)),
            ("account.key_file", account.key_file),
            ("account.keystore", account.keystore),
        )
        if value is not None
    ]
    if len(sources) > 1:
        raise SettingsError(f"{' and '.join(sources)}: more than one key; which one is meant?")
    owner = _owner(account.owner_address)
    if not sources:
        if owner is not None:
            raise SettingsError(
                "account.owner_address: there is no key of a linked signer to go with it;"
                f" set {KEY_VARIABLE} or account.key_file"
            )
        return Credentials(None, None, "the embedded exchange's own account")
    if account.key_file is not None:
        return Credentials(
            _parse(_read_private(account.key_file, "account.key_file"), "account.key_file"),
            owner,
            f"key file {account.key_file}",
        )
    if account.keystore is not None:
        return Credentials(_from_keystore(account, environ), owner, f"keystore {account.keystore}")
    return Credentials(_parse(environ[KEY_VARIABLE], KEY_VARIABLE), owner, f"environment {KEY_VARIABLE}")


def secret_from_environment(variable: str, environ: Mapping[str, str] | None = None) -> Secret | None:
    """Another secret, such as a token; None if the variable is not set or empty."""
    text = (os.environ if environ is None else environ).get(variable)
    return Secret(text) if text else None


def _parse(text: str, where: str) -> Secret:
    try:
        return parse_private_key(text)
    except InvalidKey as error:
        raise SettingsError(f"{where}: {error}") from None


def _owner(text: str | None) -> str | None:
    if text is not None and _ADDRESS.fullmatch(text) is None:
        raise SettingsError("account.owner_address: an address is 0x and 40 hex digits")
    return None if text is None else text.lower()


def _read_private(path: Path, where: str) -> str:
    """The text of a file that nobody else may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        fix = "write it there with mode 0600, or name another file"
        raise SettingsError(f"{where}: {path}: {error.strerror}; {fix}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SettingsError(f"{where}: {path} is not a plain file")
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if status.st_mode & OTHERS:
            mode = stat.S_IMODE(status.st_mode)
            raise SettingsError(
                f"{where}: {path} can be read or written by others (mode {mode:04o}); chmod 600 {path}"
            )
        if status.st_uid not in (os.geteuid(), 0):
            raise SettingsError(f"{where}: {path} belongs to somebody else (uid {status.st_uid})")
        data = opened.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise SettingsError(f"{where}: {path} is larger than {MAX_FILE_BYTES} bytes: no key file")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: {path} is not text") from None


def _from_keystore(account: AccountSection, environ: Mapping[str, str]) -> Secret:
    """A version 3 keystore as wallets write it, opened with a password from a file or the environment."""
    assert account.keystore is not None
    from eth_account import Account  # a second of imports that only a keystore needs

    text = _read_private(account.keystore, "account.keystore")
    if account.password_file is not None:
        password = _read_private(account.password_file, "account.password_file").rstrip("\r\n")
    else:
        password = environ.get(PASSWORD_VARIABLE, "")
    if not password:
        raise SettingsError(
            f"account.keystore: no password; set {PASSWORD_VARIABLE} or account.password_file"
        )
    try:
        decrypt: Callable[[Any, str], bytes] = Account.decrypt
        opened = decrypt(json.loads(text), password)
    except Exception:  # whatever the library says may hold parts of the file
        raise SettingsError(
            f"account.keystore: {account.keystore} cannot be opened: wrong password or no keystore"
        ) from None
    return _parse("0x" + bytes(opened).hex(), "account.keystore")
