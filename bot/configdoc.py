"""Configuration in words, made from the settings themselves: the reference and the sample files."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from .config import ENV_DELIMITER, ENV_PREFIX, Section, Settings

UNITS: Final = {
    "_s": "seconds", "_ms": "ms", "_bps": "bps", "_usd": "USD", "_pct": "%", "cycles": "cycles",
}  # fmt: skip
SECRETS: Final = (
    ("NADO_PRIVATE_KEY", "the key: 0x and 64 hex digits, best that of a linked signer"),
    ("NADO_KEYSTORE_PASSWORD", "password of account.keystore, unless account.password_file is set"),
    ("NADO_ALERT_WEBHOOK", "address alerts are posted to as JSON; empty = none"),
    ("TELEGRAM_BOT_TOKEN", "token of a Telegram bot; empty = none"),
    ("TELEGRAM_CHAT_ID", "chat the alerts go to"),
)
# What a sample file sets; everything else stands in it as a comment with its default.
SAMPLES: Final[dict[str, dict[str, str]]] = {
    "sim": {"venue": '"sim"', "run.cycles": "4", "pair.size_usd": "150"},
    "testnet": {
        "venue": '"testnet"', "pair.size_usd": "150", "run.cycles": "4", "risk.daily_loss_usd": "5",
        "account.key_file": '"nado.key"', "expect.first_product_id": "4", "expect.first_tick": "0.1",
        "expect.second_product_id": "8", "expect.second_tick": "0.01", "rollout.warmup_s": "60",
    },
    "mainnet": {
        "venue": '"mainnet"', "pair.size_usd": "150", "run.cycles": "1", "risk.daily_loss_usd": "5",
        "account.key_file": '"nado.key"', "expect.first_product_id": "4", "expect.first_tick": "0.1",
        "expect.second_product_id": "8", "expect.second_tick": "0.01", "metrics.port": "9464",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """One setting, in words."""

    name: str
    kind: str
    unit: str
    default: str
    text: str

    @property
    def variable(self) -> str:
        return ENV_PREFIX + self.name.upper().replace(".", ENV_DELIMITER)


def sections() -> Iterator[tuple[str, str, list[Key]]]:
    """Section name ("" for the top), what it is about, and its keys."""
    top = [_key(name, field) for name, field in Settings.model_fields.items() if not _is_section(field)]
    yield "", "", top
    for name, field in Settings.model_fields.items():
        if _is_section(field):
            model: type[Section] = field.annotation  # type: ignore[assignment]
            keys = [_key(f"{name}.{inner}", info) for inner, info in model.model_fields.items()]
            yield name, " ".join((model.__doc__ or "").split()), keys


def reference() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Layers, each over the one before: defaults, the TOML file of `--config`, environment variables,",
        "the command line. Unknown keys are refused. `python -m bot config show` prints what is in force and",
        "where it came from; `config check` says what is wrong with a file; `config init` writes",
        "one.",
        "",
        "This page is generated from the settings: `python -m bot config reference`.",
        "",
        "## Secrets",
        "",
        "Never in the file:",
        "",
        "| variable | meaning |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in SECRETS),
    ]
    for name, about, keys in sections():
        lines += ["", f"## [{name}]" if name else "## Top level", ""]
        if about and about[-1] == ".":
            lines += [about, ""]
        lines += ["| key | kind | unit | default | meaning |", "|---|---|---|---|---|"]
        lines += [f"| `{k.name}` | {k.kind} | {k.unit} | {k.default} | {k.text} |" for k in keys]
    lines += ["", f"As a variable, `risk.max_leg_usd` is `{ENV_PREFIX}RISK{ENV_DELIMITER}MAX_LEG_USD`.", ""]
    return "\n".join(lines)


def sample(venue: str) -> str:
    """A commented TOML file for a venue; loading it gives what it says. KeyError for an unknown venue."""
    chosen = SAMPLES[venue]
    lines = [f"# Settings for {venue}. Commented lines show defaults; secrets never stand here.", ""]
    for name, about, keys in sections():
        if name:
            lines.append(f"[{name}]")
            if about and about[-1] == ".":
                lines.append(f"# {about}")
        for key in keys:
            short = key.name.rpartition(".")[2]
            lines.append(f"# {key.text}" + (f" ({key.unit})" if key.unit else ""))
            if key.name in chosen:
                lines.append(f"{short} = {chosen[key.name]}")
            else:
                lines.append(f"# {short} = {'' if key.default == 'empty' else key.default}".rstrip())
        lines.append("")
    return "\n".join(lines)


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def _key(name: str, field: FieldInfo) -> Key:
    short = name.rpartition(".")[2]
    unit = next((unit for ending, unit in UNITS.items() if short.endswith(ending)), "")
    return Key(name, _kind(field.annotation), unit, _default(field.default), field.description or "")


def _kind(annotation: Any) -> str:
    if get_origin(annotation) in (Union, types.UnionType):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {_kind(get_args(annotation)[0])}"
    if hasattr(annotation, "__metadata__"):
        return _kind(get_args(annotation)[0])
    return {bool: "true or false", int: "integer", float: "number", Decimal: "decimal", Path: "path"}.get(
        annotation, "text"
    )


def _default(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_default(item) for item in value) + "]"
    return str(value)
