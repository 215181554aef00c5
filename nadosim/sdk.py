"""The official SDK without what nobody calls here.

`nado_protocol.contracts` imports web3, for calls of contracts on a chain: a third of the time in which an
exchange starts. Its EIP-712 types, which verify our signatures, need nothing of it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Final

PACKAGE: Final = "nado_protocol.contracts"


def leave_web3_out() -> None:
    """From now on this process can import the parts of `nado_protocol.contracts`, and none of its own names.

    For a process that is an exchange and nothing else, before anything of the SDK is there.
    """
    spec = find_spec(PACKAGE)
    if PACKAGE not in sys.modules and spec is not None and spec.submodule_search_locations is not None:
        hollow = ModuleType(PACKAGE)
        hollow.__path__ = list(spec.submodule_search_locations)
        sys.modules[PACKAGE] = hollow
