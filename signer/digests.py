"""Signing a digest: the document stays where it is, and only what it hashes to comes here."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from audit.log import Actor
from core.clock import Now
from core.cms import ID_DATA, check_signed_data
from core.db import Database
from core.errors import Conflict
from hsm.keys import KeyStore
from pki.certificates import Identity, signing_identity
from signer.options import Level
from signer.pdf import Signed, cms_signer, sign
from signer.service import TimestampSource
from signer.signing import Intent, RecordedKeys

SIZES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
"""The hashes a digest may be made with, and its bytes."""
_HEX: Final = re.compile("[0-9A-Fa-f]+")


class DigestRequest(BaseModel):
    """A document's digest, and how it is to be signed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: str = Field(
        default="sha256", max_length=20, description="What it was made with: sha256, sha384 or sha512, by what the key signs with."
    )
    digest: str = Field(
        max_length=128,
        description="The document's digest in hexadecimal or base64; of a PDF that over its ByteRange, everything but the hole.",
    )
    signer: str | None = Field(
        default=None,
        max_length=64,
        description="Whose key signs: a subscriber's handle or a certificate's serial number. Default: the only one you may use.",
    )
    level: Level = Field(default="B-T", description="B-B: the signature alone; B-T: with a timestamp over it.")

    @field_validator("algorithm")
    @classmethod
    def _known(cls, algorithm: str) -> str:
        if algorithm not in SIZES:
            raise ValueError(f"{algorithm!r} is not signed here: digest with one of {', '.join(SIZES)}")
        return algorithm

    @field_validator("digest")
    @classmethod
    def _fitting(cls, digest: str, info: ValidationInfo) -> str:
        algorithm = info.data.get("algorithm")
        if algorithm is not None:  # else that is what is wrong
            parse_digest(digest, algorithm)
        return digest

    @property
    def octets(self) -> bytes:
        """The digest itself."""
        return parse_digest(self.digest, self.algorithm)


class DigestSignature(BaseModel):
    """What came of a digest."""

    cms: str = Field(description="CMS SignedData (DER, detached) in base64: what goes into a PDF's /Contents, or beside a file")
    serial: str = Field(description="The signing certificate's serial number")
    level: Level


def parse_digest(text: str, algorithm: str) -> bytes:
    """The digest written as ``text`` (hexadecimal, or base64); ``algorithm`` is one of SIZES. Raises ValueError."""
    size = SIZES[algorithm]
    try:
        octets = bytes.fromhex(text) if _HEX.fullmatch(text) else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        octets = b""
    if len(octets) != size:
        raise ValueError(f"a {algorithm} digest is {size} bytes: {2 * size} hexadecimal digits, or the same in base64")
    return octets


class DigestSigner:
    """Signs digests for client systems with the keys of the subscribers they may sign for."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now, stamp: TimestampSource) -> None:
        self._database = database
        self._now = now
        self._stamp = stamp
        self._keys = RecordedKeys(database=database, keys=keys, now=now)

    def identity(self, signer: str | None, algorithm: str, actor: Actor) -> Identity:
        """Who ``signer`` is to ``actor``.

        Raises as :func:`signing_identity`, and Conflict where the key signs with another hash than ``algorithm``.
        """
        at: datetime = self._now()
        with self._database.read() as db:
            identity = signing_identity(db, client=actor.name, signer=signer, at=at)
        wanted = cms_signer(identity.certificate).hash_algorithm.name
        if algorithm != wanted:
            raise Conflict(
                f"algorithm: the key of the certificate {identity.serial} signs with {wanted}: digest the document with that"
            )
        return identity

    def sign(self, request: DigestRequest, actor: Actor) -> DigestSignature:
        """The CAdES signature over a document of this digest, as PAdES has it: no signing time among its attributes.

        Raises Forbidden for a key that is not the caller's to use, Conflict for one that cannot be used or signs with another
        hash, Unavailable while token, database or time-stamping are away. Nothing is returned that our own check did not pass.
        """
        identity = self.identity(request.signer, request.algorithm, actor)
        digest = request.octets
        intent = Intent(identity, actor, "digest", request.level, digest.hex())
        signed = sign(digest, identity, lambda data: self._keys.sign(data, intent))
        timestamp = None if request.level == "B-B" else self._stamp(signed.value, actor)
        der = _build(signed, timestamp)
        return DigestSignature(cms=base64.b64encode(der).decode("ascii"), serial=identity.serial, level=request.level)


def _build(signed: Signed, timestamp: bytes | None) -> bytes:
    """Detached SignedData with the signer's certificate and its issuers but the root, checked as a stranger would."""
    certificate = signed.identity.certificate
    issuers = [issuer for issuer in signed.identity.chain if issuer.subject != issuer.issuer]
    der = cms_signer(certificate).build_signed_data(
        signed.attributes,
        signed.value,
        content_type=ID_DATA,
        content=None,
        certificates=[certificate, *issuers],
        timestamp=timestamp,
    )
    check_signed_data(der, certificate=certificate, message_digest=signed.digest)
    return der
