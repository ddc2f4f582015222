"""A certificate authority of the test session, and what it issues: good certificates, and ones to be refused."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# libldap asks a server called "localhost" for the machine's own name, so a good certificate has that too.
HERE = ("localhost", socket.gethostname(), "127.0.0.1")


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """Files in PEM."""

    certificate: Path
    key: Path


@dataclass(slots=True)
class Authority:
    """``file`` is its own certificate, for ``ca_file``."""

    folder: Path
    file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    issued: int = 0

    @classmethod
    def create(cls, folder: Path) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"test authority {folder.name}")
        now = dt.datetime.now(dt.UTC)
        certificate = (
            _builder(name, name, key, now - dt.timedelta(days=30), now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        file = folder / "ca.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, file, certificate, key)

    def issue(self, *names: str, expired: bool = False) -> IssuedCertificate:
        """A certificate of a server with these names and addresses; for this machine without any."""
        self.issued += 1
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        end = now - dt.timedelta(hours=1) if expired else now + dt.timedelta(days=1)
        certificate = (
            _builder(_name("test server"), self.certificate.subject, key, now - dt.timedelta(days=10), end)
            .add_extension(x509.SubjectAlternativeName([_alternative(one) for one in names or HERE]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        stem = self.folder / f"server-{self.issued}"
        files = IssuedCertificate(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.touch(mode=0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begin: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
