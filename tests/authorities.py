"""Certificate authorities that a test makes, and the PEM files of what they sign."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PASSWORD = "canary-key-password-4d"
PEM = serialization.Encoding.PEM


class Authority:
    """An authority with a certificate of its own.

    Args:
        folder: Where its files are written.
        name: Its name, and the name of its file.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        made = (
            _certificate(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = made.public_bytes(PEM)
        self.path = self.write(f"{name}.pem", self.pem)
        """The file that accepts what it signs."""

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def sign(
        self,
        name: str,
        *hosts: str,
        ends: timedelta = timedelta(days=1),
        begins: timedelta = timedelta(days=-2),
        password: str | None = None,
    ) -> Path:
        """A file with a certificate and its key.

        Args:
            name: Of the file.
            hosts: Names and addresses that it is for.
            ends: When it expires, from now.
            begins: When it begins, from now.
            password: What protects the key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = _certificate(subject, self._name, key, begins, ends)
        if hosts:
            made = made.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        signed = made.add_extension(authority, critical=False).sign(self._key, hashes.SHA256())
        protection = (
            serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        )
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, protection)
        self.write(f"{name}.key", private)
        self.write(f"{name}.crt", signed.public_bytes(PEM))
        return self.write(f"{name}.pem", private + signed.public_bytes(PEM))


def server_context(certificate: Path, clients: Path | None = None) -> ssl.SSLContext:
    """TLS of a server.

    Args:
        certificate: Its certificate and key.
        clients: The authority whose certificates it asks of its clients.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: timedelta = timedelta(days=-2),
    ends: timedelta = timedelta(days=1),
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
