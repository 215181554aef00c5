"""The scanner has a C face only (see _scan.pxd); `_parse` is its Python face."""
