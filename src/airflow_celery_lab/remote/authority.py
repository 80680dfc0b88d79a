"""The lab's own certificate authority: made once, and the certificate that it gives to an address of this machine."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import StateFolderError

#: How long the authority is valid: longer than a lab is kept. Its certificates are made at each start of the gateway.
AUTHORITY_DAYS, SERVER_DAYS = 3650, 365
#: The clock of a machine that joins may be behind by so much.
SLACK = dt.timedelta(days=1)


class Authority:
    """The certificate authority of one lab."""

    def __init__(self, state: State) -> None:
        self._folder = state.tls
        self._path = state.authority

    def certificate(self) -> str:
        """Return the authority's certificate as PEM; make the authority first where there is none.

        Raises:
            StateFolderError: the folder cannot be used.

        """
        if not self._path.exists():
            self._make()
        return self._read(self._path)

    def server_context(self, address: str) -> ssl.SSLContext:
        """Return the TLS of a server at an IP address, with a new certificate.

        Raises:
            StateFolderError: the folder cannot be used.

        """
        self.certificate()
        authority = _load_certificate(self._path, self._read(self._path))
        authority_key = self._key(self._key_path)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            # libpq before 15 looks for an IP address in the name.
            _builder(address, authority.subject, key, SERVER_DAYS)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        # In one file, so that the two always belong together.
        path = self._folder / "server.pem"
        self._write(path, _private(key) + _public(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(path)
        return context

    @property
    def _key_path(self) -> Path:
        return self._folder / "ca.key"

    def _make(self) -> None:
        make_private_folder(self._folder)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Airflow Celery Lab")])
        certificate = (
            _builder("Airflow Celery Lab", name, key, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        self._write(self._key_path, _private(key))
        self._write(self._path, _public(certificate))  # Last: where it is, the key is.

    def _key(self, path: Path) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(self._read(path).encode(), password=None)
        except ValueError as error:
            raise _damaged(path) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise _damaged(path)
        return key

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(path) from error

    def _write(self, path: Path, text: str) -> None:
        try:
            files.write(path, text)
        except OSError as error:
            raise StateFolderError(f"cannot write {path}: {error.strerror}; free space or fix its permissions.", path=path) from error


def fingerprint(pem: str) -> bytes:
    """Return the SHA-256 of a certificate, which names it.

    Raises:
        ValueError: it is none.

    """
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256())


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load_certificate(path: Path, pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise _damaged(path) from error


def _public(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def _damaged(path: Path) -> StateFolderError:
    return StateFolderError(
        f"cannot use {path}: it is damaged or not readable; remove the folder {path.parent} and run `{typed()} expose` again: "
        "machines that have joined must join again.",
        path=path,
    )
