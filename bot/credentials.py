"""Where secrets come from. First cut: the environment, or the embedded exchange's own account."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from nadofast.errors import InvalidKey
from nadofast.secret import Secret, parse_private_key

from .config import SettingsError

KEY_VARIABLE: Final = "NADO_PRIVATE_KEY"


def key_from_environment(environ: Mapping[str, str] | None = None) -> Secret | None:
    """The private key in NADO_PRIVATE_KEY, None if the variable is not set.

    Raises SettingsError saying what is wrong with it, never what it is.
    """
    text = (os.environ if environ is None else environ).get(KEY_VARIABLE)
    if text is None:
        return None
    try:
        return parse_private_key(text)
    except InvalidKey as error:
        raise SettingsError(f"{KEY_VARIABLE}: {error}") from None
