"""The certificate that a node shows to who comes for blobs, new with every start, and the two ways of speaking TLS.

It says nothing and proves nothing by itself: who connects was told its fingerprint by the node, over a connection that
has proved the node's name, and looks at nothing else. TLS 1.3 alone (RFC 8446).
"""

import secrets
import ssl
import tempfile
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# It is pinned and not dated; 9999 is how RFC 5280 §4.1.2.5 says "without end". No clock has a say in it.
_VALID_FROM, _VALID_UNTIL = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def serving_context() -> tuple[ssl.SSLContext, bytes]:
    """For the side that is connected to, with a fresh key; and its certificate's fingerprint, SHA-256 of the DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fednode")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_UNTIL)
        .sign(key, hashes.SHA256())
    )
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # no session is taken up again: each connection brings a token of its own
    _load(context, key, certificate)
    return context, sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def calling_context() -> ssl.SSLContext:
    """For the side that connects. It accepts any certificate: look at its fingerprint before anything is sent."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _load(context: ssl.SSLContext, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Python's ssl takes keys from files only. For a moment one holds it, under a password that nobody sees."""
    password = secrets.token_bytes(32).hex().encode()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    with tempfile.TemporaryDirectory(prefix="fednode-") as folder:
        path = Path(folder) / "certificate.pem"
        path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(path, password=password)
