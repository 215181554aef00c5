"""The scanner for any JSON object; its interface is C (see _tolerant.pxd), `_parse` is its Python face."""
