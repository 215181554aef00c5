"""Flags of older bots: translated, not needed, or refused with a sentence that helps. Files of variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot import cli, oldflags
from bot.config import Effective, SettingsError, load
from bot.job import Job


def test_what_still_means_something_is_translated() -> None:
    old = ["run", "--size", "150", "--iter=3", "--sleep", "1.5", "--use-ioc", "--csv-path", "x.csv"]
    today = ["run", "--size-usd", "150", "--cycles=3", "--hold-s", "1.5", "--entry-mode=ioc"]
    today += ["--csv-path", "x.csv"]
    found, notes, env_file = oldflags.translate(old)
    assert (found, env_file) == (today, None)
    assert [note.partition(" ")[0] for note in notes] == ["--size", "--iter", "--sleep", "--use-ioc"]


def test_an_older_bot_crossed_with_both_legs_whatever_the_file_says_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modes: list[str] = []

    def take(effective: Effective, job: Job) -> int:
        modes.append(job.settings.entry.mode)
        return 0

    monkeypatch.setattr(cli, "trade", take)
    monkeypatch.setenv("NADO_BOT_ENTRY__MODE", "maker_then_ioc")
    assert cli.main(["run"]) == cli.main(["run", "--use-ioc"]) == 0
    assert modes == ["maker_then_ioc", "ioc"]


def test_a_line_of_old_flags_without_a_command_is_a_run() -> None:
    assert oldflags.translate(["--iter", "2"])[0] == ["run", "--cycles", "2"]
    assert oldflags.translate(["--env-file", "a.env", "--iter", "2"])[2] == Path("a.env")


@pytest.mark.parametrize("given", [["status", "--size", "1"], ["--help"], [], ["run", "--seed", "5"]])
def test_everything_else_is_left_alone(given: list[str]) -> None:
    assert oldflags.translate(given) == (given, [], None)


@pytest.mark.parametrize(
    "flag",
    [
        *oldflags.REFUSED, "--enable-spread-filter", "--enable-momentum-filter", "--enable-queue-filter",
        "--enable-partial-fill", "--enable-inventory", "--enable-exit-timing",
    ],
)  # fmt: skip
def test_what_means_nothing_any_more_is_refused_before_anything_starts(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", f"{flag}=1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"bot: {flag}: ")
    assert any(section in said for section in ("entry.", "run.", "[exit]")), "it says what to set instead"


def test_a_file_of_variables(tmp_path: Path) -> None:
    file = tmp_path / "old.env"
    file.write_text(
        "# comment\nexport NADO_MODE=DEVNET\nNADO_SUBACCOUNT_NAME='second'\nLOG_FILE=a.log\n"
        "NADO_BOT_RUN__CYCLES=7\nNADO_BOT_RUN__HOLD_S=\nLARK_TOKEN=x\n"
    )
    added = oldflags.environment(file, {"NADO_BOT_RUN__CYCLES": "9"})
    settings = load(None, {}, added).settings
    assert (settings.venue, settings.account.subaccount, settings.run.cycles) == ("testnet", "second", 9)
    assert settings.output.log_file == Path("a.log")
    assert "LARK_TOKEN" not in added


def test_a_file_with_a_secret_is_private_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.env"
    file.write_text("NADO_PRIVATE_KEY=0x" + "11" * 32 + "\n")
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600") as caught:
        oldflags.environment(file, {})
    assert "1111" not in str(caught.value)
    file.chmod(0o600)
    assert oldflags.environment(file, {})["NADO_PRIVATE_KEY"].startswith("0x11")


@pytest.mark.parametrize(
    ("text", "says"), [("NADO_MODE=PROD\n", "known: mainnet, testnet"), (None, "No such file")]
)
def test_a_mode_nobody_knows_is_never_real_money(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "old.env"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        oldflags.environment(file, {})
