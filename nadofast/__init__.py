"""Low-latency client of the Nado exchange: streams that heal, exact books, signed orders, REST.

Prices, sizes and amounts are integers scaled by 1e18 (x18) everywhere; `to_x18` and `from_x18` convert.
Start at `Feed` for data, at `OrderGateway` for orders.
"""

from . import errors, events
from ._bbo import Bbo
from ._book import OrderBook
from ._parse import parse
from ._version import __version__
from .appendix import OrderType, pack_appendix, unpack_appendix
from .batcher import NadoMessageBatcher
from .connection import LinkConfig, LinkState, NadoConnectionManager
from .connection_mode import NadoConnectionMode
from .depthsignals import BookSummary, ExitCapacity, NadoBookDepthHandler
from .dispatch import NadoEventRouter
from .errors import NadoError
from .fallback import ConnectionMode, FallbackConfig
from .feed import Feed, FeedConfig
from .fills import FillInfo, NadoOrderFillHandler, OrderFillDetails
from .gateway import GatewayConfig, OrderGateway
from .health import NadoPerformanceMonitor
from .kinds import Priority
from .messagequeue import NadoMessageQueue, QueueLimits
from .messages import NadoMessageParser
from .metrics import MetricFamily, exposition, feed_metrics
from .network import MAINNET, TESTNET, Network, custom, resolve
from .order_metrics import order_metrics
from .orders import OrderState, OrderTracker, TrackedOrder
from .outcome import CancelledOrder, OrderRequest, Outcome, OutcomeKind
from .pool import NadoConnectionPool, PoolStats
from .positions import NadoPositionHandler, PositionDetails
from .products import Product, from_x18, parse_symbols, to_x18
from .ratelimit import LimitConfig, NadoRateLimiter
from .rest import Rest, RestConfig
from .secret import Secret, parse_private_key
from .signals import Momentum, NadoBBOHandler, SpreadState
from .signing import NadoWebSocketAuth, SignedOrder, Signer, make_nonce, subaccount_hex
from .timesync import TimeSample, TimeSync, TimeSyncConfig
from .wsclient import NadoWebSocketClient

__all__ = [
    "MAINNET",
    "TESTNET",
    "Bbo",
    "BookSummary",
    "CancelledOrder",
    "ConnectionMode",
    "ExitCapacity",
    "FallbackConfig",
    "Feed",
    "FeedConfig",
    "FillInfo",
    "GatewayConfig",
    "LimitConfig",
    "LinkConfig",
    "LinkState",
    "MetricFamily",
    "Momentum",
    "NadoBBOHandler",
    "NadoBookDepthHandler",
    "NadoConnectionManager",
    "NadoConnectionMode",
    "NadoConnectionPool",
    "NadoError",
    "NadoEventRouter",
    "NadoMessageBatcher",
    "NadoMessageParser",
    "NadoMessageQueue",
    "NadoOrderFillHandler",
    "NadoPerformanceMonitor",
    "NadoPositionHandler",
    "NadoRateLimiter",
    "NadoWebSocketAuth",
    "NadoWebSocketClient",
    "Network",
    "OrderBook",
    "OrderFillDetails",
    "OrderGateway",
    "OrderRequest",
    "OrderState",
    "OrderTracker",
    "OrderType",
    "Outcome",
    "OutcomeKind",
    "PoolStats",
    "PositionDetails",
    "Priority",
    "Product",
    "QueueLimits",
    "Rest",
    "RestConfig",
    "Secret",
    "SignedOrder",
    "Signer",
    "SpreadState",
    "TimeSample",
    "TimeSync",
    "TimeSyncConfig",
    "TrackedOrder",
    "__version__",
    "custom",
    "errors",
    "events",
    "exposition",
    "feed_metrics",
    "from_x18",
    "make_nonce",
    "order_metrics",
    "pack_appendix",
    "parse",
    "parse_private_key",
    "parse_symbols",
    "resolve",
    "subaccount_hex",
    "to_x18",
    "unpack_appendix",
]
