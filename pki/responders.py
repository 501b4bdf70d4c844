"""The delegated OCSP responders renew themselves while there is time left."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from cryptography import x509

from audit.log import SYSTEM
from core.clock import Now
from core.db import Database
from core.errors import CondauError
from hsm.keys import KeySpec
from pki.ca import CertificateAuthority
from pki.certificates import authority_certificate
from pki.models import Authority, Certificate, CertificateState

_log = logging.getLogger("condau.pki")
_PROFILE: Final = "ocsp-responder"
_PATIENCE: Final = timedelta(minutes=10)
"""For so long the process that set about a renewal is left alone."""


class Responders:
    """Gives each OCSP responder a successor, with a new key, when less than a third of its time is left."""

    def __init__(self, *, database: Database, ca: CertificateAuthority, now: Now) -> None:
        self._database = database
        self._ca = ca
        self._now = now

    def renew(self) -> int:
        """Renew what is due; how many were. What fails (an offline root) is logged and tried again ten minutes later."""
        return sum(self._renew(name, subject) for name, subject in self._names().items())

    def _names(self) -> dict[str, x509.Name]:
        """The newest responder's name for each authority that has one, lives and is not revoked itself."""
        issued = (Certificate.profile == _PROFILE, Certificate.state == CertificateState.ISSUED, Certificate.key_label.is_not(None))
        query = sa.select(Authority, Certificate.der).join(Certificate, Certificate.authority_id == Authority.id)
        with self._database.read() as db:
            rows = db.execute(query.where(*issued).order_by(Certificate.id)).all()
        newest = {authority.name: (authority, der) for authority, der in rows if der is not None}
        return {
            name: x509.load_der_x509_certificate(der).subject
            for name, (authority, der) in newest.items()
            if authority_certificate(authority).not_valid_after_utc > self._now()
        }

    def _renew(self, name: str, subject: x509.Name) -> bool:
        if self._ca.has_lasting_service(_PROFILE, name) or not self._take(name):
            return False
        try:
            issued = self._ca.issue_service(profile=_PROFILE, subject=subject, issuer=name, spec=KeySpec.P_256, actor=SYSTEM)
        except CondauError as error:
            _log.warning("the OCSP responder must be renewed", extra={"fields": {"authority": name, "detail": error.detail}})
            return False
        _log.info("the OCSP responder was renewed", extra={"fields": {"authority": name, "serial": issued.serial}})
        return True

    def _take(self, name: str) -> bool:
        """Be the one who does it, of any number of processes."""
        at = self._now()
        free = sa.or_(Authority.responder_renewal_at.is_(None), Authority.responder_renewal_at < at - _PATIENCE)
        take = sa.update(Authority).where(Authority.name == name, free).values(responder_renewal_at=at)
        with self._database.write() as db:
            return db.execute(take.returning(Authority.id)).first() is not None
