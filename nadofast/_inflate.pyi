from typing import Literal

ZLIB_VERSION: str

class Inflater:
    """Receive side of permessage-deflate (RFC 7692): one per connection, one reused output buffer.

    window_bits: what the server was allowed or chose (8–15). no_context_takeover: each message starts
    with an empty window. max_output: bytes one message may inflate to. own: our decoder for short messages,
    or zlib; None follows the environment (NADOFAST_INFLATE=zlib, else ours).
    """

    def __init__(
        self,
        window_bits: int = 15,
        no_context_takeover: bool = False,
        max_output: int = 4194304,
        own: bool | None = None,
    ) -> None: ...
    @property
    def decoder(self) -> Literal["zlib", "own"]: ...
    def inflate(self, *fragments: bytes) -> bytes:
        """One whole message, given as its fragments. ValueError if it is broken, truncated or too large.

        After an error the window is lost: the connection must be replaced.
        """
