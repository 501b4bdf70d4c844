"""The room's door: a document and its options in, the signed document out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from audit.log import Actor
from core.clock import Now
from core.content import Content
from core.db import Database
from hsm.keys import KeyStore
from pki.certificates import Identity, signing_identity
from signer import pdf, xml
from signer.options import PdfOptions
from signer.signing import Intent, RecordedKeys
from signer.xml_options import XmlOptions

TimestampSource = Callable[[bytes, Actor], bytes]
"""(data, actor) -> DER of an RFC 3161 TimeStampToken over the SHA-256 of data; raises Unavailable."""


class Signer:
    """Signs documents for client systems with the keys of the subscribers they may sign for."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now, stamp: TimestampSource, font: Path) -> None:
        """``font``: the TrueType or OpenType file visible stamps are set in."""
        self._database = database
        self._now = now
        self._stamp = stamp
        self._font = font
        self._keys = RecordedKeys(database=database, keys=keys, now=now)
        self._timestamp_room = pdf.TIMESTAMP_ROOM

    def sign_pdf(self, document: Content, options: PdfOptions, actor: Actor, image: bytes | None = None) -> Content:
        """``document`` with one PAdES signature more, as an incremental update of it; ``image`` is a PNG for the stamp.

        Raises Malformed, Rejected or Conflict for what cannot be signed, Forbidden for a key that is not the caller's to use,
        Unavailable while token, database or time-stamping are away. Nothing is returned that our own check did not pass.
        """
        identity = self._identity(options.signer, actor)
        intent = Intent(identity, actor, "pdf", options.level, _sha256(document))
        stamp = (lambda data: self._stamp(data, actor)) if options.level == "B-T" else None
        while True:
            room = self._timestamp_room
            prepared = pdf.prepare(
                document, options, identity=identity, at=self._now(), image=image, timestamp_room=room, font=self._font
            )
            signed = pdf.sign(prepared.digest, identity, lambda data: self._keys.sign(data, intent))
            try:
                return pdf.finish(prepared, signed, stamp)
            except pdf.TimestampTooBig as error:
                if error.timestamp <= room:
                    raise  # more room would not have helped: a mistake of ours
                self._timestamp_room = error.timestamp + 1024  # remembered: only the first document after a change is made twice

    def sign_xml(self, document: bytes, options: XmlOptions, actor: Actor) -> bytes:
        """``document`` with one enveloped XAdES signature more; errors as for :meth:`sign_pdf`."""
        identity = self._identity(options.signer, actor)
        intent = Intent(identity, actor, "xml", options.level, hashlib.sha256(document).hexdigest())
        prepared = xml.prepare(document, options, identity=identity, at=self._now())
        signed = xml.sign(prepared, lambda data: self._keys.sign(data, intent))
        stamp = (lambda data: self._stamp(data, actor)) if options.level == "B-T" else None
        return xml.finish(signed, stamp)

    def reconcile(self, before: datetime) -> int:
        """Settle every intent older than ``before`` that a crash left undecided; returns how many."""
        return self._keys.reconcile(before)

    def _identity(self, signer: str | None, actor: Actor) -> Identity:
        with self._database.read() as db:
            return signing_identity(db, client=actor.name, signer=signer, at=self._now())


def _sha256(document: Content) -> str:
    digest = hashlib.sha256()
    for chunk in document.chunks():
        digest.update(chunk)
    return digest.hexdigest()
