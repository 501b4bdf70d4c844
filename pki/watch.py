"""The service looks at its own OCSP and CRL over HTTP after each change, as a client would, and notes when they told of it."""

from __future__ import annotations

import base64
import http.client
import logging
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlsplit

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from core.clock import Now
from core.db import Database
from core.errors import CondauError, Unavailable
from core.settings import Config
from pki.certificates import authority_certificate
from pki.grounds import HOLD
from pki.issuer import Urls
from pki.models import Certificate, StatusEvent, StatusReceipt
from pki.ocsp_request import issuer_hashes

_log = logging.getLogger("condau.pki")
_PAUSES: Final = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0, 5.0)
"""Seconds between the looks right after a change; the housekeeper looks again later."""
_AT_ONCE: Final = 50
"""Receipts looked at in one round."""
_SECONDS: Final = 5.0
_LARGEST: Final = 100_000_000
"""Bytes of an answer that are read."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What must become visible: how a certificate stands now (``reason`` None: not revoked)."""

    receipt: str
    serial: int
    issuer: x509.Certificate
    ocsp_path: str
    crl_path: str
    reason: str | None
    needs_ocsp: bool
    needs_crl: bool


class Watcher:
    """Looks until both tell, for as long as a receipt is watched. Several processes may look at the same one."""

    def __init__(self, *, database: Database, now: Now, config: Config) -> None:
        self._database = database
        self._now = now
        self._urls = Urls(config.public_url)
        self._bases: tuple[str, ...] = (config.public_url, f"http://{config.server.host}:{config.server.port}")
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look right after each :meth:`nudge` from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Something changed: look soon."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread, if there is one."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * _SECONDS)

    def look(self) -> int:
        """Look once at everything watched; how many changes are still not seen."""
        fetched: dict[str, bytes | None] = {}
        return sum(not self._look_at(wanted, fetched) for wanted in self._pending())

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            for pause in _PAUSES:
                if self._stop.wait(pause):
                    return
                try:
                    if self.look() == 0:
                        break
                except CondauError as error:
                    _log.warning("cannot watch", extra={"fields": {"detail": error.detail}})

    def _pending(self) -> list[_Wanted]:
        unseen = sa.or_(StatusReceipt.ocsp_seen_at.is_(None), StatusReceipt.crl_seen_at.is_(None))
        query = (
            sa.select(StatusReceipt, Certificate)
            .join(StatusEvent, StatusReceipt.event_id == StatusEvent.id)
            .join(Certificate, StatusEvent.certificate_id == Certificate.id)
            .where(StatusReceipt.watched_until > self._now(), unseen)
            .order_by(StatusReceipt.made_at.desc())
            .limit(_AT_ONCE)
        )
        with self._database.read() as db:
            found = db.execute(query).all()
            return [self._wanted(receipt, certificate) for receipt, certificate in found]

    def _wanted(self, receipt: StatusReceipt, certificate: Certificate) -> _Wanted:
        issuer = authority_certificate(certificate.authority)
        serial = int(certificate.serial, 16)
        return _Wanted(
            receipt.id,
            serial,
            issuer,
            urlsplit(self._urls.ocsp()).path + "/" + _request(issuer, serial),
            urlsplit(self._urls.crl(certificate.authority.name, certificate.crl_partition)).path,
            certificate.revocation_reason if certificate.revoked_at is not None else None,
            needs_ocsp=receipt.ocsp_seen_at is None,
            needs_crl=receipt.crl_seen_at is None,
        )

    def _look_at(self, wanted: _Wanted, fetched: dict[str, bytes | None]) -> bool:
        """Whether everything is seen now; what is, is noted."""
        problem = None
        seen: dict[str, datetime] = {}
        try:
            if wanted.needs_ocsp and _ocsp_tells(self._fetch(wanted.ocsp_path, {}), wanted):
                seen["ocsp_seen_at"] = self._now()
            if wanted.needs_crl and _crl_tells(self._fetch(wanted.crl_path, fetched), wanted):
                seen["crl_seen_at"] = self._now()
        except Unavailable as error:
            problem = error.detail[:300]
        note = sa.update(StatusReceipt).where(StatusReceipt.id == wanted.receipt)
        with self._database.write() as db:
            db.execute(note.values(problem=problem))
            for column, at in seen.items():  # another process may have seen it first
                db.execute(note.where(sa.column(column).is_(None)).values({column: at}))
        return len(seen) == wanted.needs_ocsp + wanted.needs_crl

    def _fetch(self, path: str, fetched: dict[str, bytes | None]) -> bytes:
        """The answer to a GET at the public URL, or where nobody listens there, on the service's own address."""
        body = fetched.get(path)
        if body is not None:
            return body
        problem = ""
        for base in dict.fromkeys(self._bases):
            try:
                body = fetched[path] = _get(base, path)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{base}: {error}"
            else:
                return body
        raise Unavailable("pki", f"cannot be reached: {problem}")


def _get(base: str, path: str) -> bytes:
    parts = urlsplit(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers={"Cache-Control": "max-age=0"})
        answer = connection.getresponse()
        body = answer.read(_LARGEST)
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise Unavailable("pki", f"{base}{path[:80]} answers {answer.status}")
    return body


def _request(issuer: x509.Certificate, serial: int) -> str:
    """An OCSP request for the end of a URL (RFC 6960, A.1)."""
    name_hash, key_hash = next((item.name, item.key) for item in issuer_hashes(issuer) if item.algorithm == "sha1")
    algorithm = hashes.SHA1()  # noqa: S303 - RFC 5019, 2.1.1 has clients name issuers by it
    built = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name_hash, key_hash, serial, algorithm).build()
    return quote(base64.b64encode(built.public_bytes(Encoding.DER)).decode("ascii"), safe="")


def _ocsp_tells(der: bytes, wanted: _Wanted) -> bool:
    try:
        answer = ocsp.load_der_ocsp_response(der)
        status = answer.certificate_status
    except ValueError as error:
        raise Unavailable("pki", f"what OCSP answered is no successful response: {error}") from error
    if wanted.reason is None:
        return status is not ocsp.OCSPCertStatus.REVOKED
    held = answer.revocation_reason is x509.ReasonFlags.certificate_hold
    return status is ocsp.OCSPCertStatus.REVOKED and held == (wanted.reason == HOLD)


def _crl_tells(der: bytes, wanted: _Wanted) -> bool:
    try:
        entry = x509.load_der_x509_crl(der).get_revoked_certificate_by_serial_number(wanted.serial)
    except ValueError as error:
        raise Unavailable("pki", f"what is at the CRL's address is no CRL: {error}") from error
    if entry is None or wanted.reason is None:
        return (entry is None) == (wanted.reason is None)
    reasons = [item.value.reason for item in entry.extensions if isinstance(item.value, x509.CRLReason)]
    return (x509.ReasonFlags.certificate_hold in reasons) == (wanted.reason == HOLD)
