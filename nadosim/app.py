"""Composition root of the exchange process: builds everything, owns start and stop order."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final

from aiohttp import web

from . import fault_script, recording
from . import market as markets
from .certificate import server_context
from .clock import Clock
from .config import ENDPOINT_ADDRESS, ExchangeConfig
from .control import Control
from .display import Display
from .edge import REFRESH_MS, EdgeCache
from .exchange import Exchange
from .fault_state import Accidents, Lies
from .faults import Faults
from .gateway import Gateway
from .limits import Limits
from .market import Market
from .regimes import REGIMES
from .replay import Replay
from .seeded_keys import FundedAccount, default_subaccount, derive_account
from .server import Surface
from .settings import Settings, SettingsError
from .steps import Step
from .streams import ALL_BBO_INTERVAL_S, DEPTH_INTERVAL_S, StreamHub
from .x18 import ONE

log = logging.getLogger(__name__)

FUNDS_X18: Final = 100_000 * ONE
HOUSEKEEPING_S: Final = 0.1
STOP_DEADLINE_S: Final = 2.0


class SimServer:
    """One running exchange. Use `serve()`; `ready` is what a client needs to know.

    failed: completes with the exception of an inner task, which nothing here survives.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.faults = Faults(settings.seed)
        self.clock = Clock()
        config = ExchangeConfig(
            chain_id=settings.chain_id,
            speed=settings.speed,
            **{"rate_limit_reply": settings.rate_limit_reply, **settings.switches},
        )
        self.exchange = Exchange(config, self.clock, self._on_step)
        self.hub = StreamHub(self.exchange, self.faults)
        self.accounts = self._fund_accounts()
        self.market = self._make_market(config)
        limits = Limits(is_on=settings.rate_limits)
        self.lies = Lies(self.faults, self.exchange)
        self.gateway = Gateway(self.exchange, self.faults, self.lies, limits)
        self.edge = EdgeCache(self.exchange)
        display = Display(self.exchange, self.hub.tape)
        self.surface = Surface(
            self.gateway, self.hub, self.exchange, self.faults, edge=self.edge, display=display
        )
        sockets = self.surface.sockets
        accidents = Accidents(self.exchange, self.hub, cut=sockets.cut, half_open=sockets.half_open)
        self.control = Control(
            self.exchange,
            self.faults,
            self.lies,
            actions=accidents.actions(),
            check_first=accidents.check,
            health=self.health,
        )
        self.ready: dict[str, Any] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._started_s = monotonic()

    async def start(self, listener: socket.socket) -> None:
        self.market.open()
        self.edge.refresh()
        self.hub.flush_depth()  # the first chain link exists before anybody listens
        app = self.surface.application(self.control.routes())
        # A compressed request is nothing the API knows: its body is taken as it is, and is no JSON.
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=STOP_DEADLINE_S,
            auto_decompress=False,
        )
        await self._runner.setup()
        context, certificate = self._tls()
        await web.SockSite(self._runner, listener, ssl_context=context).start()
        self._spawn(markets.run(self.market, self.faults, speed=self.settings.speed))
        self._spawn(_beat(DEPTH_INTERVAL_S, self.hub.flush_depth))
        self._spawn(_beat(ALL_BBO_INTERVAL_S, self.hub.publish_all_bbo))
        self._spawn(_beat(REFRESH_MS / 1e3, self.edge.refresh))
        self._spawn(_beat(HOUSEKEEPING_S, self._keep_house))
        self._spawn(fault_script.play(self.settings.faults, self.control.strike))
        self.ready = self._ready(listener.getsockname()[1], certificate)

    async def close(self) -> None:
        """Stop the world, cut every socket, release the port. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            self._tasks.clear()
        await self.surface.close()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
        self.failed.cancel()

    def health(self) -> dict[str, Any]:
        """Counters since start, for `/sim/health`."""
        hub, gateway = self.hub, self.gateway
        uptime_s = monotonic() - self._started_s
        return {
            "status": self.faults.status,
            "uptime_s": round(uptime_s, 3),
            "market": {
                "time_s": round(self.market.now_s, 3),
                "events": self.market.played,
                "refused": self.market.refused,
            },
            "events": dict(hub.events),
            "sent": hub.sent,
            "sockets": dict(self.surface.sockets.by_scope),
            "sockets_accepted": dict(self.surface.sockets.accepted),
            "sockets_cut": dict(self.surface.sockets.ends),
            "send_lag_ms": self.surface.sockets.lag.view(),
            "connections": self.surface.sockets.listed(),
            "queries": gateway.queries,
            "executes": gateway.executes,
            "failures": gateway.failures,
            "replies_lost": gateway.replies_lost,
            "over_limit": gateway.limits.refused,
            "faults": dict(self.faults.counts),
        }

    def _on_step(self, step: Step) -> None:
        self.hub.on_step(step)

    def _fund_accounts(self) -> list[FundedAccount]:
        accounts = [derive_account(self.settings.seed, index) for index in range(self.settings.accounts)]
        accounts += [FundedAccount(address, default_subaccount(address)) for address in self.settings.fund]
        for account in accounts:
            self.exchange.fund(account.subaccount, FUNDS_X18)
        return accounts

    def _make_market(self, config: ExchangeConfig) -> Market | Replay:
        settings = self.settings
        if settings.replay is not None:
            return Replay(self.exchange, recording.read(settings.replay))
        perps = [product for product in config.products if product.is_perp]
        regime = REGIMES[settings.regime]
        return Market(self.exchange, perps, seed=settings.seed, rate=settings.rate, regime=regime)

    def _tls(self) -> tuple[ssl.SSLContext | None, str | None]:
        """Context and certificate if the surface is to be encrypted."""
        settings = self.settings
        if not settings.tls and settings.tls_cert is None:
            return None, None
        return server_context(settings.tls_cert, settings.tls_key, settings.host)

    def _ready(self, port: int, certificate: str | None) -> dict[str, Any]:
        s = "" if certificate is None else "s"
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        base = f"{host}:{port}"
        return {
            "gateway": f"http{s}://{base}/v1",
            "gateway_ws": f"ws{s}://{base}/v1/ws",
            "gateway_ws_v2": f"ws{s}://{base}/ws/v2",
            "subscribe": f"ws{s}://{base}/v1/subscribe",
            "gateway_v2": f"http{s}://{base}/v2",
            "archive": f"http{s}://{base}/archive/v1",
            "control": f"http{s}://{base}/sim",
            "chain_id": self.settings.chain_id,
            "endpoint_addr": ENDPOINT_ADDRESS,
            "accounts": [account.ready_entry() for account in self.accounts],
            **({} if certificate is None else {"certificate": certificate}),
        }

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    def _keep_house(self) -> None:
        """What the exchange does by the clock, expiries first; sockets without pings are dropped."""
        self.lies.impose()
        self.exchange.run_due()
        self.surface.sockets.cut_overdue()


async def _beat(interval_s: float, work: Callable[[], None]) -> None:
    """Call `work` on a fixed grid; a missed beat is skipped, not made up for."""
    due_s = monotonic()
    while True:
        due_s = max(due_s + interval_s, monotonic())
        await asyncio.sleep(due_s - monotonic())
        work()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SettingsError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


async def serve(settings: Settings | None = None) -> SimServer:
    """Start an exchange in this loop. Close it with `close()`.

    Raises SettingsError when the port is taken, OSError and BadRecording for a file that cannot be used.
    """
    settings = settings or Settings()
    listener = listen(settings.host, settings.port)
    try:
        server = SimServer(settings)
        await server.start(listener)
    except BaseException:
        listener.close()
        raise
    return server
