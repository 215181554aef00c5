"""The control socket: who may ask, what is answered, and that no reader can hurt the bot."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from statuskit import sample

from bot import control, dashboard
from bot.cli import main
from bot.control import ControlError, ControlServer
from bot.statedir import StateDir
from bot.status import Status, from_json
from tests.core.wsserver import eventually


class Bot:
    """What a server speaks for."""

    def __init__(self, path: Path) -> None:
        self.did: list[str] = []
        self.current: Status = sample()
        commands = {"stop": self.stop, "flatten": self.refuse}
        self.path = path
        self.server = ControlServer(path, lambda: self.current, commands)

    async def stop(self) -> str:
        self.did.append("stop")
        return "stopping"

    async def refuse(self) -> str:
        raise ControlError("already flat")

    async def ask(self, request: Any) -> dict[str, Any]:
        """As another process would: in a thread, since this loop serves."""
        return await asyncio.to_thread(control.ask, self.path, request)


@pytest.fixture
async def bot(tmp_path: Path) -> AsyncIterator[Bot]:
    one = Bot(tmp_path / "control.sock")
    await one.server.start()
    yield one
    await one.server.stop()


async def test_status_comes_back_as_it_was(bot: Bot) -> None:
    reply = await bot.ask({"do": "status"})
    assert from_json(orjson.dumps(reply["status"])) == bot.current


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["alive"], 0, "it answers, in words of another version"),
        (["status"], 1, "in words of another version"),
    ],
)
async def test_a_bot_of_another_version_is_alive(
    tmp_path: Path, command: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files are replaced while it runs: no timer may take it for dead then."""

    class Later:
        def to_json(self) -> bytes:
            return b'{"stage":"HEDGED"}'

    file = tmp_path / "bot.toml"
    file.write_text(f'[output]\nstate_dir = "{tmp_path}"\n')
    with StateDir(tmp_path, network="sim", chain_id=1, subaccount="0x12", instance="child 1") as state:
        server = ControlServer(state.path / "control.sock", Later, {})  # type: ignore[arg-type]
        await server.start()
        try:
            assert await asyncio.to_thread(main, [*command, "--config", str(file)]) == code
        finally:
            await server.stop()
    heard = capsys.readouterr()
    assert says in heard.out + heard.err
    assert "internal error" not in heard.err


async def test_only_the_owner_may_connect(bot: Bot) -> None:
    assert stat.S_IMODE(os.stat(bot.path).st_mode) == 0o600


async def test_commands_run_and_say_what_they_did(bot: Bot) -> None:
    assert (await bot.ask({"do": "stop"}))["said"] == "stopping"
    assert bot.did == ["stop"]
    with pytest.raises(ControlError, match="already flat"):
        await bot.ask({"do": "flatten"})
    with pytest.raises(ControlError, match=r"unknown command 'fly'; known: flatten, status, stop, watch"):
        await bot.ask({"do": "fly"})


@pytest.mark.parametrize(
    "line", [b"hello\n", b"[]\n", b"{}\n", b'{"do": 3}\n', b'{"do": "watch", "every_s": 0}\n', b"\xff\xfe\n"]
)
async def test_nonsense_is_refused_and_the_connection_goes_on(bot: Bot, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(bot.path))
    writer.write(line + b'{"do": "stop"}\n')
    first, second = orjson.loads(await reader.readline()), orjson.loads(await reader.readline())
    assert not first["ok"]
    assert first["error"]
    assert second == {"ok": True, "said": "stopping"}
    writer.close()


async def test_an_endless_line_ends_its_connection_only(bot: Bot) -> None:
    reader, writer = await asyncio.open_unix_connection(str(bot.path))
    writer.write(b"x" * 100_000)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    assert (await bot.ask({"do": "stop"}))["ok"]


async def test_watch_follows_the_bot_until_it_ends(bot: Bot) -> None:
    reader, writer = await asyncio.open_unix_connection(str(bot.path), limit=1 << 20)
    writer.write(b'{"do": "watch", "every_s": 0.05}\n')
    assert orjson.loads(await reader.readline())["status"]["phase"] == "HEDGED"
    bot.current = sample(phase="HALTED", halt="daily loss")
    async with asyncio.timeout(5):
        while orjson.loads(await reader.readline())["status"]["phase"] != "HALTED":
            pass
    await bot.server.stop()
    async with asyncio.timeout(5):
        while await reader.readline():
            pass
    writer.close()
    assert not bot.path.exists()


async def test_too_many_readers_are_turned_away(bot: Bot) -> None:
    links = [await asyncio.open_unix_connection(str(bot.path)) for _ in range(control.MAX_CLIENTS)]
    for _, writer in links:
        writer.write(b'{"do": "status"}\n')
    for reader, _ in links:
        await reader.readline()
    with pytest.raises(ControlError, match=r"without an answer|reset|[Bb]roken pipe"):
        await bot.ask({"do": "status"})
    for _, writer in links:
        writer.close()


@pytest.mark.parametrize("once", [True, False])
async def test_a_dashboard_that_is_turned_away_says_so(tmp_path: Path, once: bool) -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    path = tmp_path / "control.sock"
    async with await asyncio.start_unix_server(closes, path=str(path)):
        with pytest.raises(ControlError, match="without an answer"):
            await asyncio.to_thread(dashboard.run, path, every_s=0.5, once=once)


async def test_a_reader_that_does_not_read_is_dropped(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "WRITE_TIMEOUT_S", 0.1)
    bot.current = sample(events=("x" * 100_000,))
    reader, writer = await asyncio.open_unix_connection(str(bot.path), limit=1024)
    writer.write(b'{"do": "watch", "every_s": 0.05}\n')
    await reader.readuntil(b"{")
    await eventually(lambda: not bot.server.readers)
    writer.close()


async def test_a_dead_bots_socket_is_taken_over_and_said_so_to_who_asks(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with pytest.raises(ControlError, match="no bot is running there"):
        control.ask(path, {"do": "status"})
    first = Bot(path)
    await first.server.start()
    first.server._server.close()  # type: ignore[union-attr]  # as a kill would: the file stays
    if not path.exists():
        path.touch()
    with pytest.raises(ControlError, match="no bot is running there"):
        await first.ask({"do": "status"})
    second = Bot(path)
    await second.server.start()
    assert (await second.ask({"do": "stop"}))["ok"]
    await second.server.stop()


async def test_a_bot_that_hangs_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(silent, path=str(path))
    with pytest.raises(ControlError, match="the process hangs"):
        await asyncio.to_thread(control.ask, path, {"do": "status"}, 0.2)
    server.close()


async def test_a_deep_directory_is_no_obstacle_a_missing_one_is_refused(
    tmp_path: Path,
) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    bot = Bot(deep / "control.sock")
    await bot.server.start()
    assert (await bot.ask({"do": "stop"}))["ok"]
    await bot.server.stop()
    with pytest.raises(ControlError, match="No such file"):
        await Bot(tmp_path / "no" / "s").server.start()


async def test_requests_in_a_heap_leave_the_loop_its_turns(bot: Bot) -> None:
    reader, writer = await asyncio.open_unix_connection(str(bot.path), limit=1 << 22)
    writer.write(b'{"do": "status"}\n' * 50)
    turns = 0
    for _ in range(50):
        line = asyncio.ensure_future(reader.readline())
        while not line.done():
            await asyncio.sleep(0)
            turns += 1
        assert orjson.loads(line.result())["ok"]
    assert turns > 500  # other work had its turn between any two answers
    writer.close()
