"""Signing a digest: the document stays where it is, and only what it hashes to comes here."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final, Self

from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from audit.log import Actor
from core.clock import Now
from core.cms import check_signed_data
from core.db import Database
from core.errors import Conflict, Rejected
from hsm.keys import KeyStore
from pki.certificates import Identity
from pki.identities import Identities
from pki.material import Material
from signer.activation import KeptToken
from signer.carried import read_leaves
from signer.gates import Gates, Request
from signer.levels import Levels, Reached, is_at_least
from signer.options import PadesLevel
from signer.pdf import Signed, build_cms, cms_signer, sign
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
    level: PadesLevel = Field(
        default="B-T",
        description="B-B: the signature alone; B-T: with a timestamp over it; B-LT and B-LTA: and with the validation material. "
        "The archive timestamp of B-LTA is over the finished file: you fetch it from `/tsa`.",
    )

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


class Validation(BaseModel):
    """Validation material: what goes into a PDF's DSS dictionary. Each item is DER in base64."""

    certificates: list[str]
    crls: list[str]
    ocsp_responses: list[str]

    @classmethod
    def of(cls, material: Material) -> Self:
        """What was collected."""
        der = [certificate.public_bytes(Encoding.DER) for certificate in material.certificates]
        return cls(certificates=_base64(der), crls=_base64(material.crls), ocsp_responses=_base64(material.ocsps))


class ValidationRequest(BaseModel):
    """A signature whose validation material is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cms: str = Field(max_length=900_000, description="A CMS signature or RFC 3161 timestamp (DER) in base64, as a PDF holds it")


class DigestSignature(BaseModel):
    """What came of a digest."""

    cms: str = Field(description="CMS SignedData (DER, detached) in base64: what goes into a PDF's /Contents, or beside a file")
    serial: str = Field(description="The signing certificate's serial number")
    level: PadesLevel = Field(description="Lower than asked for only where the service's policy lets it be")
    validation: Validation | None = Field(default=None, description="With B-LT and B-LTA")


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

    def __init__(
        self, *, database: Database, keys: KeyStore, now: Now, stamp: TimestampSource, levels: Levels, gates: Gates
    ) -> None:
        self._identities = Identities(database)
        self._now = now
        self._stamp = stamp
        self._levels = levels
        self._gates = gates
        self._keys = RecordedKeys(database=database, keys=keys, now=now, permits=gates.permits)

    def identity(self, signer: str | None, algorithm: str, actor: Actor) -> Identity:
        """Who ``signer`` is to ``actor``.

        Raises as :func:`pki.certificates.signing_identity`, and Conflict where the key signs with another hash than ``algorithm``.
        """
        identity = self._identities.find(client=actor.name, signer=signer, at=self._now())
        wanted = cms_signer(identity.certificate).hash_algorithm.name
        if algorithm != wanted:
            raise Conflict(
                f"algorithm: the key of the certificate {identity.serial} signs with {wanted}: digest the document with that"
            )
        return identity

    def sign(self, request: DigestRequest, actor: Actor, *, activation: str | KeptToken | None = None) -> DigestSignature:
        """The CAdES signature over a document of this digest, as PAdES has it: no signing time among its attributes.

        Raises Forbidden for a key that is not the caller's to use, Conflict for one that cannot be used or signs with another
        hash, Unavailable while token, database or time-stamping are away. Nothing is returned that our own check did not pass.
        """
        identity = self.identity(request.signer, request.algorithm, actor)
        digest = request.octets
        asked = Request(profile="plain", identity=identity, actor=actor, digest=digest.hex(), activation=activation)
        intent = Intent(identity, actor, "digest", request.level, digest.hex(), self._gates.check(asked))
        reached = self._levels.check(identity, request.level, actor) or Reached(request.level, "")
        signed = sign(digest, identity, lambda data: self._keys.sign(data, intent))
        timestamp, validation = None, None
        if is_at_least(reached.level, "B-T"):
            timestamp, fallen = self._levels.attempt("B-B", lambda: self._stamp(signed.value, actor))
            reached = fallen or reached
        if is_at_least(reached.level, "B-LT"):
            leaves, hints = (identity.certificate,), identity.chain
            material, fallen = self._levels.attempt("B-T", lambda: self._levels.collect(leaves, hints=hints, actor=actor))
            validation = None if material is None else Validation.of(material)
            reached = fallen or reached
        if reached.level != request.level:
            self._keys.note_lower(signed.value, intent, reached=reached.level, why=reached.why)
        der = _build(signed, timestamp)
        return DigestSignature(cms=_base64([der])[0], serial=identity.serial, level=reached.level, validation=validation)

    def collect(self, request: ValidationRequest, actor: Actor) -> Validation:
        """What judging a signature later will need, its timestamps' and the next archive timestamp's included.

        Raises Rejected for what is no CMS signature, Conflict where no trusted authority is above it, Unavailable.
        """
        try:
            der = base64.b64decode(request.cms, validate=True)
        except ValueError as error:
            raise Rejected("cms", "is not in base64") from error
        leaves, hints = read_leaves(der)
        return Validation.of(self._levels.collect(leaves, hints=hints, actor=actor))


def _base64(items: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(item).decode("ascii") for item in items]


def _build(signed: Signed, timestamp: bytes | None) -> bytes:
    """Detached SignedData with the signer's certificate and its issuers but the root, checked as a stranger would."""
    der = build_cms(signed.identity, signed.attributes, signed.value, timestamp)
    check_signed_data(der, certificate=signed.identity.certificate, message_digest=signed.digest)
    return der
