"""Commands that do not trade, as a user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from botcommand import give

from bot import commands, configdoc, exporting, trials
from bot.config import SettingsError, known_keys, load

ROOT = Path(__file__).resolve().parents[2]


def bot(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
    return give(clean | environ, *arguments)


@pytest.mark.parametrize("venue", list(configdoc.SAMPLES))
def test_a_sample_is_complete_and_can_be_loaded(tmp_path: Path, venue: str) -> None:
    text = configdoc.sample(venue)
    for key in known_keys():
        assert f"{key.rpartition('.')[2]} =" in text
    file = tmp_path / "bot.toml"
    file.write_text(text)
    chosen = dict(load(file, {}, {}).sources)
    assert sorted(chosen) == sorted(configdoc.SAMPLES[venue])


@pytest.mark.parametrize("venue", list(configdoc.SAMPLES))
def test_every_default_in_a_sample_may_be_written_out(tmp_path: Path, venue: str) -> None:
    """Taking the comment off a line changes nothing, and breaks nothing."""
    file, shown = tmp_path / "bot.toml", []
    names = "|".join(key.rpartition(".")[2] for key in known_keys())
    for line in configdoc.sample(venue).splitlines():
        is_default = re.fullmatch(rf"# ({names}) = .+", line) is not None
        shown.append(line.removeprefix("# ") if is_default else line)
    file.write_text("\n".join(shown))
    written = load(file, {}, {})
    assert len(written.sources) > 50
    chosen = tmp_path / "as_it_is.toml"
    chosen.write_text(configdoc.sample(venue))
    assert written.settings == load(chosen, {}, {}).settings


def test_init_writes_once_and_check_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "bot.toml"
    assert bot("config", "init", "--out", str(file)).returncode == 0
    again = bot("config", "init", "--out", str(file))
    assert (again.returncode, again.stderr) == (2, f"bot: {file}: exists already; it is not overwritten\n")
    checked = bot("config", "check", str(file))
    assert checked.returncode == 0
    assert checked.stdout.endswith(f"{file}: in order\n")


def test_show_names_value_and_source_also_for_scripts(tmp_path: Path) -> None:
    file = tmp_path / "bot.toml"
    file.write_text("[run]\ncycles = 9\n")
    shown = bot("config", "show", "--config", str(file), NADO_BOT_PAIR__SIZE_USD="175")
    assert f"9  ({file})" in shown.stdout
    assert "175  (environment)" in shown.stdout
    as_json = json.loads(bot("config", "show", "--json").stdout)
    assert as_json["run.cycles"] == {"value": "4", "source": "default"}
    assert sorted(as_json) == sorted(known_keys())


def test_a_key_in_the_environment_is_not_shown() -> None:
    key = "0x" + "1f" * 32
    shown = bot("config", "show", NADO_PRIVATE_KEY=key)
    assert shown.returncode == 0
    assert key[2:] not in shown.stdout + shown.stderr


def test_every_setting_is_explained() -> None:
    text = configdoc.reference()
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == text
    for _, _, keys in configdoc.sections():
        for key in keys:
            assert key.text, f"{key.name} has no description"
            if key.default == "empty":
                assert "empty" in key.text, f"{key.name} does not say what empty means"


def test_report_of_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("hello\n")
    refused = bot("report", str(file))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"bot: {file}: no trades file: column timestamp is missing\n"


@pytest.mark.parametrize("missing", ["plotly", "something_below"])
def test_what_is_missing_is_named_as_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A module below it, or one of ours, is a defect: nobody is told to install a stranger's package."""
    monkeypatch.delitem(sys.modules, "bot.htmlreport", raising=False)
    monkeypatch.delattr("bot.htmlreport", raising=False)

    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "bot.htmlreport":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises((SettingsError, ModuleNotFoundError)) as caught:
        commands.report_command([tmp_path / "x.csv"])
    is_ours = missing == "plotly"
    assert isinstance(caught.value, SettingsError) == is_ours
    assert str(caught.value).endswith(f"-m pip install '{commands.NEEDS}'") == is_ours


def test_what_a_command_needs_is_what_the_project_says() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = {"report": commands.NEEDS, "parquet": exporting.NEEDS, "cluster": trials.NEEDS}
    assert {name: extras[name] for name in needed} == {name: [one] for name, one in needed.items()}
