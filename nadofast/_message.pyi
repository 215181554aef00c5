"""What a scanned message is made of; its interface is C (see _message.pxd)."""
