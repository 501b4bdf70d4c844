"""What a job does with each of its rows: how rows are found and checked, and how one is carried out, once per origin."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Protocol

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError
from sqlalchemy.orm import joinedload

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import CondauError, Conflict, Rejected, Unavailable
from hsm.keys import KeySpec
from jobs.csv_rows import CsvRow
from jobs.views import ReplacementRequest
from pki.enrolment import Enrolments
from pki.grounds import HOLD
from pki.models import Certificate, CertificateState
from pki.views import CertificateRequest, RekeyRequest
from registry.agencies import agencies_with_code
from registry.models import Subscriber

REQUIRED: Final = ("subscriber", "profile", "reference")
OPTIONAL: Final = ("key", "csr", "days")
Input = dict[str, Any]
Revoke = Callable[[str, str, Actor], object]
"""Revokes the certificate with this serial number for this reason."""


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row with what the check found; an empty ``problem`` means that it can be carried out."""

    number: int
    input: Input
    profile: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What carrying a row out gave."""

    serial: str | None
    detail: str = ""


class Kind(Protocol):
    """One kind of job."""

    def perform(self, row: Input, options: dict[str, Any], actor: Actor) -> Outcome:
        """Carry one row out, or find that it was for ``actor.origin`` already; raises CondauError."""
        ...


class EnrolmentKind:
    """A new certificate for each row."""

    def __init__(self, enrolments: Enrolments) -> None:
        self._enrolments = enrolments

    def check(self, rows: Collection[CsvRow], actor: Actor) -> list[CheckedRow]:
        """Every row, checked as the request it stands for would be; a second row for the same holder and profile is refused."""
        problems: dict[int, str] = {}
        requests: dict[int, CertificateRequest] = {}
        for row in rows:
            try:
                if not row.problem:
                    requests[row.number] = _request(row.fields)
            except CondauError as error:
                problems[row.number] = describe(error)
        found = self._enrolments.check_all(list(requests.values()), actor)
        problems |= {number: describe(error) for number, error in zip(requests, found, strict=True) if error is not None}
        checked: list[CheckedRow] = []
        seen: dict[tuple[str, str], int] = {}
        for row in rows:
            profile = row.fields.get("profile", "")
            problem = row.problem or problems.get(row.number, "")
            if not problem:
                earlier = seen.setdefault((row.fields["subscriber"], profile), row.number)
                if earlier != row.number:
                    problem = f"line {earlier} asks for the same subscriber and profile"
            checked.append(CheckedRow(row.number, row.fields, profile, problem))
        return checked

    def perform(self, row: Input, options: dict[str, Any], actor: Actor) -> Outcome:  # noqa: ARG002 - the protocol's
        """Issue the certificate."""
        return Outcome(self._enrolments.issue(_request(row), actor).serial)


class ReplacementKind:
    """A successor over a new key for each certificate whose key is in the token; every certificate is then revoked."""

    def __init__(self, enrolments: Enrolments, *, database: Database, revoke: Revoke, now: Now) -> None:
        self._enrolments = enrolments
        self._database = database
        self._revoke = revoke
        self._now = now

    def find(self, request: ReplacementRequest, actor: Actor) -> list[CheckedRow]:
        """Every valid certificate the request means, checked; raises NotFound for an agency nobody knows."""
        at = self._now()
        query = sa.select(Certificate).where(
            Certificate.state == CertificateState.ISSUED,
            Certificate.revoked_at.is_(None),
            Certificate.not_after >= at,
            Certificate.subscriber_id.is_not(None),
        )
        with self._database.read() as db:
            if request.agency is not None:
                agencies = agencies_with_code(db, request.agency, at, subtree=request.subtree)
                query = query.join(Subscriber, Certificate.subscriber_id == Subscriber.id).where(Subscriber.agency_id.in_(agencies))
            elif request.spki_sha256 is not None:
                query = query.where(Certificate.spki_sha256 == request.spki_sha256)
            else:
                query = query.where(Certificate.profile == request.profile)
            rows = list(db.scalars(query.options(joinedload(Certificate.subscriber)).order_by(Certificate.id)))
        return [self._check(number, row, request, actor) for number, row in enumerate(rows, start=1)]

    def perform(self, row: Input, options: dict[str, Any], actor: Actor) -> Outcome:
        """Issue the successor, then revoke what it replaces. A certificate whose key we do not have is only revoked."""
        serial = None
        if row["key_in_hsm"]:
            wanted = RekeyRequest(reference=options["reference"], key=KeySpec(options["key"]))
            serial = self._enrolments.rekey(row["serial"], wanted, actor).serial
        try:
            self._revoke(row["serial"], options["reason"], actor)
        except Conflict:
            if not self._is_revoked(row["serial"]):
                raise
        return Outcome(serial, "" if serial else "revoked; its key is not in the HSM: ask the holder for a new request")

    def _check(self, number: int, row: Certificate, request: ReplacementRequest, actor: Actor) -> CheckedRow:
        found = {
            "serial": row.serial,
            "subscriber": row.subscriber.handle if row.subscriber else "",
            "profile": row.profile,
            "key_in_hsm": row.key_label is not None,
        }
        problem = ""
        if row.key_label is not None:
            try:
                self._enrolments.check_rekey(row.serial, RekeyRequest(reference=request.reference, key=request.key), actor)
            except Unavailable:
                raise
            except CondauError as error:
                problem = describe(error)
        return CheckedRow(number, found, row.profile, problem)

    def _is_revoked(self, serial: str) -> bool:
        """For good: who was only suspended would come back."""
        query = sa.select(Certificate.revoked_at, Certificate.revocation_reason).where(Certificate.serial == serial)
        with self._database.read() as db:
            revoked_at, reason = db.execute(query).one()
        return revoked_at is not None and reason != HOLD


def describe(error: CondauError) -> str:
    """What is wrong, each violation with its field."""
    if isinstance(error, Rejected):
        return "; ".join(f"{item.field}: {item.message}" for item in error.violations)
    return error.detail


def _request(fields: Input) -> CertificateRequest:
    """The request a row stands for; raises Rejected."""
    values = {**fields}
    if "csr" in values:
        values["csr"] = _one_line_csr(values["csr"])
    elif "key" not in values:
        values["key"] = KeySpec.P_256.value
    try:
        return CertificateRequest.model_validate(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        raise Conflict("; ".join(f"{'.'.join(map(str, item['loc'])) or 'row'}: {item['msg']}" for item in wrong)) from error


def _one_line_csr(text: str) -> str:
    """A PKCS #10 request in base64 on one line (its PEM without line ends, or DER in base64), as PEM."""
    bare = (
        text.replace("\\n", "").replace("-----BEGIN CERTIFICATE REQUEST-----", "").replace("-----END CERTIFICATE REQUEST-----", "")
    )
    try:
        der = base64.b64decode("".join(bare.split()), validate=True)
        return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Rejected("csr", "no PKCS #10 request in base64 on one line: `openssl req -outform DER | base64 -w 0`") from error
