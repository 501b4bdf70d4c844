"""The room's door: a document and its options in, the signed document out."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from audit.log import Actor
from core.clock import Now
from core.content import Content
from core.db import Database
from core.errors import CondauError
from hsm.keys import KeyStore
from pki.certificates import Identity
from pki.identities import Identities
from signer import pdf, xml
from signer.activation import KeptToken
from signer.gallery import Gallery
from signer.gates import Gates, Request
from signer.levels import Levels, Reached, is_at_least
from signer.options import PadesLevel, PdfOptions
from signer.signing import Intent, RecordedKeys
from signer.verification_pages import PageDraft
from signer.xml_options import XmlOptions

TimestampSource = Callable[[bytes, Actor], bytes]
"""(data, actor) -> DER of an RFC 3161 TimeStampToken over the SHA-256 of data; raises Unavailable."""


class Signer:
    """Signs documents for client systems with the keys of the subscribers they may sign for."""

    def __init__(
        self,
        *,
        database: Database,
        keys: KeyStore,
        now: Now,
        stamp: TimestampSource,
        levels: Levels,
        gates: Gates,
        gallery: Gallery,
        font: Path,
    ) -> None:
        """``font``: the TrueType or OpenType file visible stamps are set in."""
        self._database = database
        self._identities = Identities(database)
        self._now = now
        self._stamp = stamp
        self._levels = levels
        self._font = font
        self._gates = gates
        self._gallery = gallery
        self._keys = RecordedKeys(database=database, keys=keys, now=now, permits=gates.permits)
        self._timestamp_room = pdf.TIMESTAMP_ROOM

    def sign_pdf(
        self,
        document: Content,
        options: PdfOptions,
        actor: Actor,
        image: bytes | None = None,
        *,
        activation: str | KeptToken | None = None,
        lowered: Callable[[Reached], None] | None = None,
    ) -> Content:
        """``document`` with one PAdES signature more, as incremental updates of it; ``image`` is a PNG for the stamp.

        ``activation`` is the token of one, for a key or profile that asks for it. ``lowered`` is told of a level below the one
        asked for, where policy allows that. Raises Malformed, Rejected or Conflict for what cannot be signed, Refused for what
        the gates do not let pass, Forbidden for a key that is not the caller's to use, Unavailable while token, database,
        time-stamping or validation material are away. Nothing is returned that our own check did not pass.
        """
        identity = self._identity(options.signer, actor)
        request = Request(
            profile=options.profile,
            identity=identity,
            actor=actor,
            digest=document.sha256(),
            document=document,
            password=options.password,
            number=options.number,
            issued_on=options.issued_on,
            secrecy=options.secrecy,
            activation=activation,
        )
        permit = self._gates.check(request)
        intent = Intent(identity, actor, "pdf", options.level, request.digest, permit)
        if permit.number is not None:
            options = options.model_copy(update={"number": permit.number})
        try:
            signed, page = self._make_pdf(document, options, intent, image, lowered)
            self._keys.hand_out(signed, intent, page)
        except CondauError:
            self._keys.not_delivered(intent.permit)
            raise
        return signed

    def _make_pdf(
        self,
        document: Content,
        options: PdfOptions,
        intent: Intent,
        image: bytes | None,
        lowered: Callable[[Reached], None] | None,
    ) -> tuple[Content, PageDraft | None]:
        """The signed document, and the page that a QR code on it leads to."""
        identity, actor = intent.identity, intent.actor
        reached = self._levels.check(identity, options.level, actor)
        if reached is not None:
            options = options.model_copy(update={"level": reached.level})
        while True:
            room = self._timestamp_room
            at = self._now()
            act = self._gallery.act(options, identity, at, image)
            page = None if act is None else act.page
            attempt = replace(intent, page=page)
            prepared = pdf.prepare(
                document,
                options,
                identity=identity,
                at=at,
                image=image,
                timestamp_room=room,
                font=self._font,
                act=act,
            )
            signed = pdf.sign(prepared.digest, identity, functools.partial(self._keys.sign, intent=attempt))
            try:
                finished, fallen = self._finish(prepared, signed, options.level, actor)
            except pdf.TimestampTooBig as error:
                if error.timestamp <= room:
                    raise  # more room would not have helped: a mistake of ours
                self._timestamp_room = error.timestamp + 1024  # remembered: only the first document after a change is made twice
                continue
            reached = fallen or reached
            if reached is not None:
                self._keys.note_lower(signed.value, intent, reached=reached.level, why=reached.why)
                if lowered is not None:
                    lowered(reached)
            return finished, page

    def _finish(
        self, prepared: pdf.Prepared, signed: pdf.Signed, level: PadesLevel, actor: Actor
    ) -> tuple[Content, Reached | None]:
        """The signed document at ``level``, or by policy at the one that could be had."""
        if not is_at_least(level, "B-T"):
            return pdf.finish(prepared, signed, None), None
        timestamp, fallen = self._levels.attempt("B-B", lambda: self._stamp(signed.value, actor))
        if timestamp is None:
            return pdf.finish(prepared, signed, None), fallen
        if not is_at_least(level, "B-LT"):
            return pdf.finish(prepared, signed, lambda _: timestamp), None
        return self._levels.complete(prepared, signed, timestamp, level=level, actor=actor)

    def sign_xml(self, document: bytes, options: XmlOptions, actor: Actor, *, activation: str | None = None) -> bytes:
        """``document`` with one enveloped XAdES signature more; errors as for :meth:`sign_pdf`."""
        identity = self._identity(options.signer, actor)
        digest = hashlib.sha256(document).hexdigest()
        request = Request(profile="plain", identity=identity, actor=actor, digest=digest, activation=activation)
        intent = Intent(identity, actor, "xml", options.level, digest, self._gates.check(request))
        prepared = xml.prepare(document, options, identity=identity, at=self._now())
        signed = xml.sign(prepared, lambda data: self._keys.sign(data, intent))
        stamp = (lambda data: self._stamp(data, actor)) if options.level == "B-T" else None
        return xml.finish(signed, stamp)

    def reconcile(self, before: datetime) -> int:
        """Settle every intent older than ``before`` that a crash left undecided; returns how many."""
        return self._keys.reconcile(before)

    def _identity(self, signer: str | None, actor: Actor) -> Identity:
        return self._identities.find(client=actor.name, signer=signer, at=self._now())
