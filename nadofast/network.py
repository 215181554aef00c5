"""Where an exchange lives: endpoints, chain id and contract of each network. Nothing else holds a URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class Network:
    """Endpoints and signing domain of one exchange. Build custom ones directly or with `custom()`.

    chain_id and endpoint_address are what signatures are made for; `Rest.contracts()` tells what the
    exchange itself says, and clients refuse to run on a difference.
    """

    name: str
    gateway_rest: str
    gateway_ws_v1: str
    gateway_ws_v2: str
    subscribe: str
    archive: str
    chain_id: int
    endpoint_address: str


def _official(name: str, env: str, chain_id: int, endpoint_address: str) -> Network:
    gateway = f"gateway.{env}.nado.xyz"
    return Network(
        name=name,
        gateway_rest=f"https://{gateway}/v1",
        gateway_ws_v1=f"wss://{gateway}/v1/ws",
        gateway_ws_v2=f"wss://{gateway}/ws/v2",
        subscribe=f"wss://{gateway}/v1/subscribe",
        archive=f"https://archive.{env}.nado.xyz/v1",
        chain_id=chain_id,
        endpoint_address=endpoint_address,
    )


MAINNET: Final = _official("mainnet", "prod", 57073, "0x05ec92d78ed421f3d3ada77ffde167106565974e")
TESTNET: Final = _official("testnet", "test", 763373, "0x698d87105274292b5673367dec81874ce3633ac2")
NETWORKS: Final[Mapping[str, Network]] = {"mainnet": MAINNET, "testnet": TESTNET}


def resolve(network: str | Network) -> Network:
    """A Network by name, or the one given. Raises ConfigError on an unknown name: never a default."""
    if isinstance(network, Network):
        return network
    try:
        return NETWORKS[network]
    except KeyError:
        raise ConfigError(f"unknown network {network!r}; known: {', '.join(sorted(NETWORKS))}") from None


def custom(name: str, endpoints: Mapping[str, Any]) -> Network:
    """Network from the keys an embedded exchange prints when it is ready.

    Keys: gateway, gateway_ws, gateway_ws_v2, subscribe, archive, chain_id, endpoint_addr.
    Raises ConfigError naming the key that is missing or of the wrong type.
    """
    values: dict[str, str] = {}
    for key in ("gateway", "gateway_ws", "gateway_ws_v2", "subscribe", "archive", "endpoint_addr"):
        value = endpoints.get(key)
        if not isinstance(value, str) or not value:
            raise ConfigError(f"network {name}: {key} is missing or not a string")
        values[key] = value
    chain_id = endpoints.get("chain_id")
    if isinstance(chain_id, str) and chain_id.isdecimal():
        chain_id = int(chain_id)
    if not isinstance(chain_id, int) or isinstance(chain_id, bool) or chain_id <= 0:
        raise ConfigError(f"network {name}: chain_id is missing or not a positive integer")
    return Network(
        name=name,
        gateway_rest=values["gateway"],
        gateway_ws_v1=values["gateway_ws"],
        gateway_ws_v2=values["gateway_ws_v2"],
        subscribe=values["subscribe"],
        archive=values["archive"],
        chain_id=chain_id,
        endpoint_address=values["endpoint_addr"].lower(),
    )
