"""Typed settings: defaults < TOML file < environment (NADO_BOT_SECTION__KEY) < command line.

A key nobody knows is refused with the nearest known one; every effective value knows its source.
Secrets are not settings: they live in `credentials.py` and never pass through here.
"""

from __future__ import annotations

import difflib
import os
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

ENV_PREFIX: Final = "NADO_BOT_"
ENV_DELIMITER: Final = "__"
MAINNET_WARMUP_S: Final = 3_600.0
LISTS: Final = ("exchange.command", "rollout.ladder_usd")
MAX_FILE_CHARACTERS: Final = 1 << 20
VENUES: Final = ("sim", "testnet", "mainnet", "custom")

Usd = Annotated[Decimal, Field(gt=0, le=Decimal(10_000_000), max_digits=16, decimal_places=6)]
Bps = Annotated[int, Field(ge=0, le=1_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class SettingsError(Exception):
    """Configuration that cannot be used; the text is one line and names the key."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PairSection(Section):
    """The two legs. BUY_FIRST buys `first` and sells `second`; SELL_FIRST is the mirror."""

    first: str = Field(default="ETH-PERP", min_length=1, max_length=32, description="symbol of one leg")
    second: str = Field(
        default="SOL-PERP", min_length=1, max_length=32, description="symbol of the other leg"
    )
    size_usd: Usd = Field(default=Decimal(150), description="budget per leg, USD at the worst entry price")
    gap_bps: Bps = Field(
        default=25, description="wanted gap between the legs: the largest size within it, else the least gap"
    )

    @model_validator(mode="after")
    def _two_products(self) -> PairSection:
        if self.first == self.second:
            raise ValueError("first and second are the same product; name two")
        return self


class RunSection(Section):
    cycles: int = Field(default=4, ge=1, le=1_000_000, description="cycles to complete")
    on_open: Literal["refuse", "adopt", "finish", "flatten"] = Field(
        default="refuse", description="positions or orders found at the start: what to do about them"
    )
    drain_deadline_s: Seconds = Field(
        default=60.0, description="first signal: the open cycle may take this long, then it is flattened"
    )
    hold_s: Seconds = Field(default=0.5, description="time between a verified BUILD and its CLOSE")
    max_skips: int = Field(default=10, ge=1, le=1_000, description="skipped cycles in a row before giving up")
    ready_timeout_s: PositiveSeconds = Field(default=30.0, description="wait for books, stream and clock")


class EntrySection(Section):
    mode: Literal["ioc", "maker_then_ioc"] = Field(
        default="ioc", description="both legs cross, or the thinner one rests first and the other follows"
    )
    maker_timeout_s: PositiveSeconds = Field(
        default=2.0, description="the leg that rests first waits this long, then both cross"
    )
    maker_leg_ms: int = Field(
        default=250, ge=0, le=10_000, description="leg risk: a part of it that filled waits this long"
    )
    maker_leg_usd: Usd = Field(default=Decimal(75), description="and while it is no more than this")
    cap_bps: Bps = Field(default=20, description="worst entry price, from the mid at decision")
    max_slippage_bps: Bps = Field(
        default=15, description="estimated from both books, mean of the legs: above it a skip; 0 = no bound"
    )
    max_fee_bps: Bps = Field(
        default=10, description="taker fee of a leg, the exchange's floor included: above it a skip; 0 = none"
    )
    discard_ms: int = Field(
        default=0, ge=0, le=60_000, description="engine refuses a leg that late; 0 = measured"
    )
    sign_ahead_ms: int = Field(
        default=0, ge=0, le=1_000,
        description="legs are signed in idle time; a late one may be taken by so much later; 0 = off",
    )  # fmt: skip
    attempts: int = Field(default=3, ge=1, le=20, description="tries of one BUILD while nothing filled")
    hedge_attempts: int = Field(
        default=3, ge=0, le=20, description="tries to complete a leg before unwinding"
    )
    leg_deadline_s: PositiveSeconds = Field(
        default=3.0, description="one leg filled, other not: unwind after"
    )
    headroom_bps: Bps = Field(default=300, description="leg notional above the exchange's minimum")


class ExitSection(Section):
    maker_timeout_s: Seconds = Field(default=3.0, description="a resting exit waits this long; 0 = no rest")
    reprice_ms: int = Field(
        default=400, ge=0, le=60_000, description="least age of an exit that moves; 0 = never"
    )
    move_in_one_step: bool = Field(
        default=True, description="an exit moves by cancel_and_place; false = a cancel, then a new order"
    )
    cap_bps: Annotated[int, Field(ge=5, le=1_000)] = Field(
        default=30,
        description="worst taker exit price, from the mid at decision; times 3 when it does not fill",
    )
    deadline_s: PositiveSeconds = Field(default=10.0, description="taker part of an exit, before recovery")


class RiskSection(Section):
    max_leg_usd: Usd | None = Field(default=None, description="per leg, worst price; empty = pair.size_usd")
    max_gross_usd: Usd | None = Field(default=None, description="both legs; empty = twice max_leg_usd")
    daily_loss_pct: Decimal = Field(
        default=Decimal(1), gt=0, le=100, decimal_places=4, description="of the equity at start"
    )
    daily_loss_usd: Usd | None = Field(default=None, description="replaces daily_loss_pct; empty = that")
    max_net_delta_pct: Decimal = Field(
        default=Decimal(2), gt=0, le=100, decimal_places=2, description="a settled pair beyond it unwinds"
    )
    max_quote_age_s: PositiveSeconds = Field(
        default=5.0, ge=0.001, description="older market data blocks entries"
    )
    max_residual_usd: Usd = Field(
        default=Decimal(100), description="left of a leg that no order can close: more of it blocks entries"
    )
    max_blind_s: PositiveSeconds = Field(default=5.0, description="no word from the exchange at all: stop")
    max_first_coins: Usd | None = Field(default=None, description="position of pair.first; empty = no limit")
    max_second_coins: Usd | None = Field(default=None, description="of pair.second; empty = no limit")
    warn_net_delta_pct: Decimal = Field(
        default=Decimal(1), gt=0, le=100, decimal_places=2, description="a line when the pair is beyond it"
    )
    max_entry_delta_pct: Decimal = Field(
        default=Decimal(10), gt=0, le=100, decimal_places=2, description="nothing is built beyond it"
    )
    max_orders_per_min: int = Field(default=400, ge=0, le=600, description="entries wait above; 0 = no limit")
    max_builds_per_min: int = Field(default=120, ge=0, le=600, description="of one product; 0 = no limit")
    max_clock_offset_s: Seconds = Field(
        default=60.0, description="local clock against the exchange's: no entries beyond; 0 = no limit"
    )
    maintenance: Literal["auto", "on", "off"] = Field(
        default="auto", description="no entries around Mon/Thu 14:00 UTC; auto = not on the embedded exchange"
    )
    maintenance_margin_s: Seconds = Field(default=300.0, description="entries end this long before a window")


class WebsocketSection(Section):
    """The roll-back to REST alone: without a WebSocket prices, books and account are polled, orders go over
    HTTP, and a fill is told when the archive shows it."""

    enabled: bool = Field(default=True, description="false = REST only: no WebSocket is opened at all")
    rest_market_age_s: PositiveSeconds = Field(
        default=2.0, description="REST only: prices and books count for so long after the question"
    )
    rest_account_age_s: PositiveSeconds = Field(
        default=5.0, description="REST only: so do positions and resting orders; older = no entries"
    )


class LiveSection(Section):
    """Real money: every venue but sim."""

    confirm: str | None = Field(
        default=None,
        max_length=100,
        description="name/chain id, as in mainnet/57073; empty = asked for at a terminal",
    )


class ExchangeSection(Section):
    """The embedded exchange, started as a child of the bot, or one that already runs."""

    file: Path | None = Field(
        default=None, description="ready line of an exchange that already runs; empty = start one (sim)"
    )
    command: tuple[str, ...] = Field(default=(), description="empty = this interpreter with -m nadosim")
    port: int = Field(default=0, ge=0, le=65_535, description="0 = any free port")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="empty = a new one, printed")
    rate: int | None = Field(
        default=None, ge=1, le=100_000, description="market messages/s; empty = its default"
    )
    linger_s: Seconds = Field(default=0.0, description="how long it outlives the bot")
    start_timeout_s: PositiveSeconds = Field(default=20.0, description="wait for its ready line")


class AccountSection(Section):
    """Who trades. The key itself never stands here: environment, key file or keystore (`credentials.py`)."""

    key_file: Path | None = Field(default=None, description="file with the key, mode 0600; empty = none")
    keystore: Path | None = Field(default=None, description="encrypted keystore, mode 0600; empty = none")
    password_file: Path | None = Field(
        default=None, description="its password, mode 0600; empty = NADO_KEYSTORE_PASSWORD"
    )
    owner_address: str | None = Field(
        default=None, description="wallet that a linked signer signs for; empty = the key's own"
    )
    subaccount: str = Field(
        default="default", pattern=r"^[ -~]{1,12}$", description="name of the subaccount, 12 letters at most"
    )


class ExpectSection(Section):
    """What the operator believes about the two products, held against the exchange's rules at start."""

    first_product_id: int | None = Field(default=None, ge=0, description="id of pair.first; empty = any")
    first_tick: Decimal | None = Field(default=None, gt=0, description="its price step; empty = any")
    first_size_step: Decimal | None = Field(default=None, gt=0, description="its size step; empty = any")
    second_product_id: int | None = Field(default=None, ge=0, description="id of pair.second; empty = any")
    second_tick: Decimal | None = Field(default=None, gt=0, description="its price step; empty = any")
    second_size_step: Decimal | None = Field(default=None, gt=0, description="its size step; empty = any")


class RolloutSection(Section):
    """How a new set-up is brought to live trading step by step."""

    warmup_s: Seconds | None = Field(
        default=None, description="stream stable before the first order; empty = 3600 on mainnet, else 0"
    )
    ladder_usd: tuple[Usd, ...] = Field(
        default=(), description="sizes to start with, one a step, before pair.size_usd; empty = none"
    )
    ladder_cycles: int = Field(default=3, ge=1, le=10_000, description="complete cycles on each step")


class AlertsSection(Section):
    """Addresses are secrets: NADO_ALERT_WEBHOOK, TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID."""

    repeat_s: Seconds = Field(default=60.0, description="the same alert at most once in this time")
    per_minute: int = Field(default=20, ge=1, le=600, description="alerts below critical, of all topics")
    telegram_url: str = Field(default="https://api.telegram.org", description="base of the Telegram API")


class MetricsSection(Section):
    host: str = Field(default="127.0.0.1", description="address Prometheus may read from")
    port: int | None = Field(default=None, ge=0, le=65_535, description="0 = any free one; empty = off")


class OutputSection(Section):
    csv_path: Path | None = Field(default=None, description="empty = runs/trades-<UTC time>.csv")
    state_dir: Path = Field(
        default=Path("state"),
        description="kill switch, day's result, journal: a directory per account in it; absolute if real",
    )
    journal: Path | None = Field(
        default=None, description="journal of orders, asked about at the next start; empty = in state_dir"
    )
    journal_fsync: Literal["none", "interval", "every"] = Field(
        default="none",
        description="records forced to the disk: never, at most a second late, or each at once",
    )
    log_file: Path | None = Field(default=None, description="copy of the event lines; empty = none")
    record_dir: Path | None = Field(
        default=None, description="directory to record the run in, for `replay`; empty = no recording"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="json = one object a line, for programs"
    )


class Settings(BaseSettings):
    """Everything that can be set. Build with `load()`, which turns every refusal into one line."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER
    )

    venue: Literal["sim", "testnet", "mainnet", "custom"] = Field(
        default="sim", description="where to trade; sim is the embedded exchange"
    )
    pair: PairSection = PairSection()
    run: RunSection = RunSection()
    entry: EntrySection = EntrySection()
    exit: ExitSection = ExitSection()
    risk: RiskSection = RiskSection()
    exchange: ExchangeSection = ExchangeSection()
    websocket: WebsocketSection = WebsocketSection()
    live: LiveSection = LiveSection()
    output: OutputSection = OutputSection()
    account: AccountSection = AccountSection()
    expect: ExpectSection = ExpectSection()
    rollout: RolloutSection = RolloutSection()
    alerts: AlertsSection = AlertsSection()
    metrics: MetricsSection = MetricsSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The layers are merged by load(), which must know where each value came from.
        return (init_settings,)

    @model_validator(mode="after")
    def _limits_agree(self) -> Settings:
        if self.risk.max_leg_usd is not None and self.pair.size_usd > self.risk.max_leg_usd:
            raise ValueError(
                f"pair.size_usd {self.pair.size_usd} exceeds risk.max_leg_usd {self.risk.max_leg_usd};"
                " lower the one or raise the other"
            )
        if any(step > self.pair.size_usd for step in self.rollout.ladder_usd):
            raise ValueError(
                f"rollout.ladder_usd has a step above pair.size_usd {self.pair.size_usd}; it leads up to it"
            )
        if self.max_gross_usd < 2 * self.pair.size_usd:
            raise ValueError(
                f"risk.max_gross_usd {self.max_gross_usd} is below twice pair.size_usd {self.pair.size_usd};"
                " raise the one or lower the other"
            )
        return self

    @property
    def warmup_s(self) -> float:
        if self.rollout.warmup_s is not None:
            return self.rollout.warmup_s
        return MAINNET_WARMUP_S if self.venue == "mainnet" else 0.0

    @property
    def max_leg_usd(self) -> Decimal:
        return self.risk.max_leg_usd if self.risk.max_leg_usd is not None else self.pair.size_usd

    @property
    def max_gross_usd(self) -> Decimal:
        return self.risk.max_gross_usd if self.risk.max_gross_usd is not None else 2 * self.max_leg_usd


@dataclass(frozen=True, slots=True)
class Effective:
    """Settings and, per dotted key that is not a default, the layer that set it."""

    settings: Settings
    sources: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Every key with its value and the layer that set it."""
        for key, value in _flatten(self.settings.model_dump()):
            yield key, "" if value is None else str(value), self.sources.get(key, "default")

    def lines(self) -> Iterator[str]:
        """`key = value (source)` for every value that is not a default."""
        flat = dict(_flatten(self.settings.model_dump()))
        for key, source in sorted(self.sources.items()):
            yield f"{key} = {flat.get(key)} ({source})"


def load(
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Effective:
    """The effective settings. `overrides`: dotted key → value from the command line.

    Raises SettingsError with one line: file, key, reason.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    if file is not None:
        layers.append((str(file), _flat_checked(_read_toml(file), str(file))))
    layers.append(("environment", _from_environ(os.environ if environ is None else environ)))
    layers.append(("command line", dict(overrides or {})))
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, layer in layers:
        for key, value in layer.items():
            merged[key], sources[key] = value, name
    try:
        settings = Settings(**_nest(merged))
    except ValidationError as error:
        raise SettingsError(_one_line(error, sources)) from None
    return Effective(settings, sources)


def known_keys() -> list[str]:
    """Every dotted key a file may hold."""
    return list(_defaults())


def _defaults() -> dict[str, Any]:
    return dict(_flatten(Settings().model_dump()))


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MAX_FILE_CHARACTERS + 1)
        if len(text) > MAX_FILE_CHARACTERS:
            raise SettingsError(
                f"{file}: more than {MAX_FILE_CHARACTERS} characters: no settings file; see `config init`"
            )
        return tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file; `config init --out FILE` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {_reason(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not valid TOML: {_reason(error)}; texts are quoted") from None
    except RecursionError:
        raise SettingsError(f"{file}: not valid TOML: nested too deep; see `config init`") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())


def _flat_checked(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    flat = dict(_flatten(document))
    defaults = _defaults()
    known, sections = list(defaults), _sections()
    for key in document:
        if (
            key not in sections
            and key not in known
            and isinstance(document[key], Mapping)
            and not document[key]
        ):
            raise SettingsError(f"{where}: unknown section {key!r}{_nearest(key, sorted(sections))}")
    for key in flat:
        if key not in known:
            if key in sections:
                raise SettingsError(f"{where}: {key} is a section, write [{key}]")
            raise SettingsError(f"{where}: unknown key {key!r}{_nearest(key, known)}")
    for key, value in flat.items():
        if isinstance(value, bool) and not isinstance(defaults[key], bool):  # would pass for 1 or 0
            raise SettingsError(
                f"{where}: {key}: {str(value).lower()} is not a value it can have; {hint(key)}"
            )
    return flat


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """NADO_BOT_RISK__MAX_LEG_USD → risk.max_leg_usd. Lists are split like a shell."""
    flat: dict[str, Any] = {}
    known = known_keys()
    for name, value in environ.items():
        if not name.startswith(ENV_PREFIX):
            continue
        key = name.removeprefix(ENV_PREFIX).lower().replace(ENV_DELIMITER, ".")
        if key not in known:
            nearest = _nearest(key, known, show=lambda k: ENV_PREFIX + k.upper().replace(".", ENV_DELIMITER))
            raise SettingsError(f"environment: unknown variable {name!r}{nearest}")
        flat[key] = _split_command(name, value) if key in LISTS else value
    return flat


def _split_command(name: str, value: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise SettingsError(f"environment: {name}: {error}") from None


def _nearest(key: str, known: list[str], show: Any = str) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not close:  # a right name in the wrong section is the commonest slip
        close = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"; did you mean {show(close[0])!r}?" if close else "; `config reference` lists what there is"


def _flatten(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if not value and prefix == "":
                continue
            yield from _flatten(value, f"{dotted}.")
        else:
            yield dotted, value


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        target = nested.setdefault(section, {}) if section else nested
        target[name] = value
    return nested


def _one_line(error: ValidationError, sources: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location[:2]) if location and location[0] in _sections() else ".".join(location[:1])
    text = first["msg"].removeprefix("Value error, ")
    if key == "venue":
        text = f"unknown venue {first.get('input')!r}; known: {', '.join(VENUES)}"
    elif fix := hint(key):
        text = f"{text}; {fix}"
    # A rule about several keys names its own; the layer is that of the first one somebody set.
    concerned = [k for k in sources if k == key or k in text or k.startswith(f"{key}.")]
    where = f"{sources[concerned[0]]}: " if concerned else ""
    more = len(error.errors(include_url=False)) - 1
    tail = f" (and {more} more)" if more else ""
    return f"{where}{key}: {text}{tail}" if key else f"{where}{text}{tail}"


def hint(key: str) -> str:
    """What may stand there: meaning, limits and default; "" for what is no key."""
    section, _, name = key.rpartition(".")
    fields = Settings.model_fields
    if section:
        fields = fields[section].annotation.model_fields  # type: ignore[union-attr]
    field = fields.get(name)
    if field is None or (isinstance(field.annotation, type) and issubclass(field.annotation, Section)):
        return ""
    default = "empty" if field.default is None or field.default == () else field.default
    shown = str(default).lower() if isinstance(default, bool) else default
    return f"write {field.description}; default {shown}"


def _sections() -> set[str]:
    return {key.partition(".")[0] for key in known_keys() if "." in key}
