"""A self-signed certificate for `--tls`: P-256, valid for a week, for this host's names only.

Built from the cryptographic primitives the SDK brings along; the key lives in a directory only the owner can
read, for as long as it takes to load it.
"""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Random.random import getrandbits
from Crypto.Signature import DSS
from Crypto.Util.asn1 import DerBitString, DerInteger, DerObject, DerObjectId, DerOctetString

VALID: Final = timedelta(days=7)
ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"
COMMON_NAME: Final = "2.5.4.3"
SUBJECT_ALT_NAME: Final = "2.5.29.17"
BASIC_CONSTRAINTS: Final = "2.5.29.19"


def server_context(certificate: str | None, key: str | None, host: str) -> tuple[ssl.SSLContext, str]:
    """A TLS context, and the PEM text of the certificate clients have to trust.

    certificate, key: files to use; both None makes a new pair. Raises OSError or ssl.SSLError for bad files.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        for path in (certificate, key or certificate):
            Path(path).read_bytes()  # OpenSSL does not name the file it cannot read
        context.load_cert_chain(certificate, key)
        return context, Path(certificate).read_text(encoding="ascii")
    private = ECC.generate(curve="P-256")
    pem = _pem(self_signed(private, host))
    with tempfile.TemporaryDirectory(prefix="nadosim-") as folder:
        both = Path(folder) / "pair.pem"
        both.touch(mode=0o600)
        both.write_text(pem + private.export_key(format="PEM") + "\n", encoding="ascii")
        context.load_cert_chain(both)
    return context, pem


def self_signed(private: ECC.EccKey, host: str) -> bytes:
    """DER of an X.509 version 3 certificate for localhost, the loopback addresses and `host`."""
    now = datetime.now(UTC)
    name = _sequence(_set(_sequence(_oid(COMMON_NAME), _utf8("nadosim"))))
    algorithm = _sequence(_oid(ECDSA_SHA256))
    extensions = _sequence(
        _sequence(_oid(BASIC_CONSTRAINTS), _boolean(), _octets(_sequence(_boolean()))),
        _sequence(_oid(SUBJECT_ALT_NAME), _octets(_alternative_names(host))),
    )
    body = _sequence(
        _tagged(0xA0, DerInteger(2).encode()),
        DerInteger(getrandbits(120) | 1 << 119).encode(),
        algorithm,
        name,
        _sequence(_utc(now - timedelta(hours=1)), _utc(now + VALID)),
        name,
        private.public_key().export_key(format="DER"),
        _tagged(0xA3, extensions),
    )
    signature = DSS.new(private, "fips-186-3", encoding="der").sign(SHA256.new(body))
    return _sequence(body, algorithm, DerBitString(signature).encode())


def _alternative_names(host: str) -> bytes:
    names = [_tagged(0x82, b"localhost")]
    addresses = {"127.0.0.1", "::1"}
    try:
        addresses.add(str(ipaddress.ip_address(host)))
    except ValueError:
        names.append(_tagged(0x82, host.encode("idna")))
    names += [_tagged(0x87, ipaddress.ip_address(address).packed) for address in sorted(addresses)]
    return _sequence(*names)


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _tagged(tag: int, content: bytes) -> bytes:
    """Type, length, content; lengths up to 64 KiB."""
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _set(content: bytes) -> bytes:
    return _tagged(0x31, content)


def _oid(dotted: str) -> bytes:
    return DerObjectId(dotted).encode()


def _utf8(text: str) -> bytes:
    return _tagged(0x0C, text.encode())


def _octets(content: bytes) -> bytes:
    return DerOctetString(content).encode()


def _boolean() -> bytes:
    return DerObject(asn1Id=0x01, payload=b"\xff").encode()


def _utc(moment: datetime) -> bytes:
    return _tagged(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def _pem(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der)
