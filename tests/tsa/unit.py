"""A time-stamping unit for the tests: root, issuing CA and certificate in the database, its key in a software key store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from audit.log import Actor
from core.db import Database
from core.settings import TsaConfig
from hsm.keys import KeySpec, KeyStore, PrivateKey
from pki.certificates import format_serial
from pki.models import Authority, Certificate
from tests.software_keys import SoftwareKeys
from tsa.authority import TimestampAuthority

ACTOR = Actor("anonymous", "public", "request-0001")
POLICY = "1.3.6.1.4.1.99999.1.1"


@dataclass(frozen=True)
class Pki:
    """The certificates above and of the unit."""

    root: x509.Certificate
    issuing: x509.Certificate
    unit: x509.Certificate

    def pem(self, *names: str) -> bytes:
        return b"".join(getattr(self, name).public_bytes(serialization.Encoding.PEM) for name in names)


def subject(name: str) -> x509.Name:
    parts = [(NameOID.COUNTRY_NAME, "VN"), (NameOID.ORGANIZATION_NAME, "Cơ quan thử nghiệm"), (NameOID.COMMON_NAME, name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def install_unit(
    database: Database, keys: SoftwareKeys, at: datetime, *, spec: KeySpec = KeySpec.P_256, label: str = "tsa-1"
) -> Pki:
    """Make a unit valid for a day from an hour before ``at`` and enter it as the pki room would."""
    key = keys.generate(label, spec)
    pki = make_pki(key, at)
    insert_unit(database, pki, label, at)
    return pki


def make_pki(key: PrivateKey, at: datetime) -> Pki:
    root_key, issuing_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Gốc thử nghiệm", root_key, None, root_key, at, authority=True)
    issuing = _certificate("CA thử nghiệm", issuing_key, root, root_key, at, authority=True)
    return Pki(root, issuing, _certificate("TSU thử nghiệm", key, issuing, issuing_key, at, authority=False))


def _certificate(
    name: str, key: PrivateKey, issuer: x509.Certificate | None, issuer_key: PrivateKey, at: datetime, *, authority: bool
) -> x509.Certificate:
    start, end = at - timedelta(hours=1), at + timedelta(days=1)
    holder = subject(name)
    above = holder if issuer is None else issuer.subject
    builder = x509.CertificateBuilder(above, holder, key.public_key(), x509.random_serial_number(), start, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    builder = builder.add_extension(
        x509.KeyUsage(
            digital_signature=not authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=authority,
            crl_sign=authority,
            encipher_only=False,
            decipher_only=False,
        ),
        critical=True,
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer_public = issuer_key.public_key()
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def insert_unit(database: Database, pki: Pki, label: str, at: datetime) -> None:
    with database.write() as db:
        parent = None
        for name in ("root", "issuing"):
            certificate: x509.Certificate = getattr(pki, name)
            row = Authority(
                name=f"{name}-{label}",
                subject=certificate.subject.rfc4514_string(),
                key_label=f"{name}-{label}",
                certificate_der=certificate.public_bytes(serialization.Encoding.DER),
                parent_id=parent,
            )
            db.add(row)
            db.flush()
            parent = row.id
        db.add(
            Certificate(
                serial=format_serial(pki.unit.serial_number),
                authority_id=parent,
                profile="tsa",
                subject=pki.unit.subject.rfc4514_string(),
                key_label=label,
                spki_sha256=label,
                state="issued",
                tbs=pki.unit.tbs_certificate_bytes,
                der=pki.unit.public_bytes(serialization.Encoding.DER),
                not_before=pki.unit.not_valid_before_utc,
                not_after=pki.unit.not_valid_after_utc,
                intended_at=at,
                issued_at=at,
            )
        )


def make_authority(database: Database, keys: KeyStore, now: Callable[[], datetime], **config: Any) -> TimestampAuthority:
    return TimestampAuthority(database=database, keys=keys, now=now, config=TsaConfig(**{"policy": POLICY, **config}))
