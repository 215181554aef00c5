"""Where the key comes from: one place, closed to others, and never shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from eth_account import Account

from bot.config import AccountSection, SettingsError
from bot.credentials import find, secret_from_environment

KEY = "0x" + "1f" * 32
OWNER = "0x" + "Ab" * 20


def key_file(tmp_path: Path, text: str = KEY, mode: int = 0o600) -> Path:
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_without_any_key_the_embedded_exchange_lends_its_own() -> None:
    found = find(AccountSection(), {})
    assert (found.key, found.owner_address) == (None, None)
    assert "embedded" in found.source


def test_environment_file_and_linked_signer(tmp_path: Path) -> None:
    by_environment = find(AccountSection(), {"NADO_PRIVATE_KEY": KEY})
    by_file = find(AccountSection(key_file=key_file(tmp_path, KEY + "\n"), owner_address=OWNER), {})
    for found in (by_environment, by_file):
        assert found.key is not None
        assert found.key.reveal() == KEY
        assert KEY[4:] not in repr(found)
    assert by_file.owner_address == OWNER.lower()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o777])
def test_a_key_file_that_others_can_reach_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path, mode=mode)
    with pytest.raises(SettingsError) as caught:
        find(AccountSection(key_file=file), {})
    assert f"chmod 600 {file}" in str(caught.value)
    assert f"{mode:04o}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("0x" + "ab" * 20, "looks like an address"),
        ("0x" + "00" * 32, "zero"),
        ("not a key, but a secret", "not hex"),
        ("ab" * 40_000, "no key file"),
    ],
)
def test_bad_keys_are_named_without_being_shown(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        find(AccountSection(key_file=key_file(tmp_path, text)), {})
    assert reason in str(caught.value)
    assert text == "" or text not in str(caught.value)


def test_two_keys_are_a_question_not_a_guess(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="more than one key"):
        find(AccountSection(key_file=key_file(tmp_path)), {"NADO_PRIVATE_KEY": KEY})


def test_no_such_file_a_folder_a_pipe_and_bytes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "bytes").chmod(0o600)
    for name, reason in (
        ("none", "No such file"), (".", "not a plain file"), ("pipe", "not a plain file"),
        ("bytes", "not text"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=reason):
            find(AccountSection(key_file=tmp_path / name), {})


def test_an_owner_address_needs_a_key_and_a_shape() -> None:
    with pytest.raises(SettingsError, match="no key of a linked signer"):
        find(AccountSection(owner_address=OWNER), {})
    with pytest.raises(SettingsError, match="40 hex digits"):
        find(AccountSection(owner_address="0x12"), {"NADO_PRIVATE_KEY": KEY})


def test_a_keystore_opens_with_its_password_only(tmp_path: Path) -> None:
    file = tmp_path / "keystore.json"
    file.write_text(json.dumps(Account.encrypt(KEY, "open sesame", kdf="pbkdf2", iterations=2)))
    file.chmod(0o600)
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    password.chmod(0o600)
    by_file = find(AccountSection(keystore=file, password_file=password), {})
    by_environment = find(AccountSection(keystore=file), {"NADO_KEYSTORE_PASSWORD": "open sesame"})
    for found in (by_file, by_environment):
        assert found.key is not None
        assert found.key.reveal() == KEY
    with pytest.raises(SettingsError, match="no password"):
        find(AccountSection(keystore=file), {})
    with pytest.raises(SettingsError, match="wrong password") as caught:
        find(AccountSection(keystore=file), {"NADO_KEYSTORE_PASSWORD": "let me in"})
    assert "let me in" not in str(caught.value)
    password.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        find(AccountSection(keystore=file, password_file=password), {})


def test_other_secrets_are_secrets_too() -> None:
    token = secret_from_environment("TELEGRAM_BOT_TOKEN", {"TELEGRAM_BOT_TOKEN": "123:abc"})
    assert token is not None
    assert "abc" not in f"{token!r} {token}"
    assert secret_from_environment("TELEGRAM_BOT_TOKEN", {"TELEGRAM_BOT_TOKEN": ""}) is None
