"""`python -m nadosim`: one exchange in one process.

The first line on stdout is the ready line, one JSON object; nothing follows it. The process ends when
stdin closes (if stdin is a pipe), on SIGTERM and on SIGINT, quietly and with exit code 0. What cannot
be used (an option, a file, a taken port) is one line on stderr and exit code 2; a defect is exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import ssl
import stat
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
import uvloop

from . import sdk
from .recording import BadRecording
from .regimes import DEFAULT_REGIME, REGIMES
from .settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from .app import SimServer

EXIT_OK = 0
EXIT_DEFECT = 1
EXIT_USAGE = 2


class _Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"nadosim: {message}\n")


def parse(argv: list[str]) -> Settings:
    """Settings from the command line and its --config file. Raises SettingsError; exits 2 on bad options."""
    parser = _Parser(prog="nadosim", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="TOML file; options given here win over it")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (0: any free one)")
    parser.add_argument("--seed", type=int, help="of the market and of the funded accounts")
    parser.add_argument("--rate", type=float, help="market messages per second, all products (200)")
    parser.add_argument("--regime", help=f"kind of market: {', '.join(REGIMES)} ({DEFAULT_REGIME})")
    parser.add_argument("--replay", metavar="FILE", help="play a recording instead of a simulated market")
    parser.add_argument("--speed", type=float, help="market seconds per real second (1)")
    parser.add_argument("--accounts", type=int, metavar="N", help="funded accounts to make (1)")
    parser.add_argument(
        "--fund", action="append", metavar="ADDRESS", help="fund this address too; repeatable"
    )
    parser.add_argument("--chain-id", type=int, help="chain id of the signing domain")
    parser.add_argument("--linger-s", type=float, metavar="S", help="live on after stdin closes (0)")
    parser.add_argument(
        "--tls", action="store_true", default=None, help="https and wss, certificate made here"
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate to use instead (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="its key (PEM)")
    parser.add_argument(
        "--no-rate-limits",
        dest="rate_limits",
        action="store_false",
        default=None,
        help="count no request weights",
    )
    parser.add_argument("--rate-limit-reply", help="code (HTTP 200 with 1000) or http (429)")
    parser.add_argument(
        "--switch", action="append", metavar="NAME=VALUE", help="a switch of the exchange core; repeatable"
    )
    options = vars(parser.parse_args(argv))
    switches = options.pop("switch")
    if switches is not None:
        options["switches"] = dict(_switch(text) for text in switches)
    return load(options.pop("config"), options)


def _switch(text: str) -> tuple[str, Any]:
    """NAME=VALUE; the value as JSON if it is some, else as it stands."""
    name, _, value = text.partition("=")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


async def run(settings: Settings) -> None:
    """Serve until told to stop. Raises what `serve` does, or what an inner task died of."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await _serve(settings)
    # What exists now lives as long as the process: keep the collector from walking it again and again.
    gc.collect()
    gc.freeze()
    try:
        _watch_stdin(stop, settings.linger_s)
        _announce(server)
        await _first(stop, server)
    finally:
        await server.close()


async def _serve(settings: Settings) -> SimServer:
    """Start the server."""
    return await _loaded()(settings)


def _loaded() -> Callable[[Settings], Awaitable[SimServer]]:
    """What serves. Imported late: wrong options are answered without waiting for the SDK to load."""
    sdk.leave_web3_out()
    with warnings.catch_warnings():
        # A dependency of the official SDK imports pkg_resources; stderr is for what can be acted on.
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        from .app import serve
    return serve


async def _first(stop: asyncio.Event, server: SimServer) -> None:
    stopped = asyncio.create_task(stop.wait())
    ends: set[asyncio.Future[Any]] = {stopped, server.failed}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    if server.failed.done():
        server.failed.result()


def _announce(server: SimServer) -> None:
    sys.stdout.buffer.write(orjson.dumps(server.ready) + b"\n")
    sys.stdout.buffer.flush()


def _watch_stdin(stop: asyncio.Event, linger_s: float) -> None:
    """Stop when a piped stdin closes: the parent is gone. A terminal or a file says nothing about it."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return
    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        try:
            data = os.read(0, 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(0)
            loop.call_later(linger_s, stop.set)

    loop.add_reader(0, on_readable)


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.WARNING, format="nadosim: %(levelname)s %(name)s: %(message)s")
    try:
        settings = parse(sys.argv[1:] if argv is None else argv)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except (SettingsError, BadRecording, ssl.SSLError) as error:
        return _complain(str(error), EXIT_USAGE)
    except (BrokenPipeError, KeyboardInterrupt):
        return EXIT_OK  # nobody reads the ready line, or nobody wants it any more
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            return _complain(f"{error.filename}: {error.strerror}", EXIT_USAGE)
        return _complain(f"stopped by a defect: {type(error).__name__}: {error}", EXIT_DEFECT)
    return EXIT_OK


def _complain(text: str, code: int) -> int:
    print(f"nadosim: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
