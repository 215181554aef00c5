from collections.abc import Sequence

def text_frames(messages: Sequence[bytes], masks: bytes) -> bytes:
    """One final, masked WebSocket text frame per message, one after the other (RFC 6455, section 5.2).

    masks: 4 bytes for each message, else ValueError. TypeError on a message that is not bytes.
    """
