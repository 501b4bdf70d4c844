"""The tables of the certificate authorities: who issues, what was issued, and what was published about it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.db import Base, Record
from registry.models import Agency, Subscriber

_STANDING: Final = sa.text("state != 'abandoned'")

OWN_DOMAIN: Final = "own"
"""The trust domain of this instance's authorities; everybody else's is labelled by the admin who installed the anchor."""


class CertificateState(StrEnum):
    """How far an issuance came. Only ``ISSUED`` has left the house; ``ABANDONED`` is revoked as well."""

    INTENDED = "intended"
    ISSUED = "issued"
    ABANDONED = "abandoned"


class CrlState(StrEnum):
    """How far a CRL came. An abandoned one leaves a gap in the numbers, which RFC 5280, 5.2.3 allows."""

    INTENDED = "intended"
    ISSUED = "issued"
    ABANDONED = "abandoned"


class Authority(Base):
    """A certificate authority: a name and a key that signs certificates and CRLs.

    ``alias`` is what its generations have in common and ``generation`` counts them: the newest issues, the older ones go on
    signing their CRLs. ``certificate_der`` is NULL until its own certificate has been issued. ``crl_number`` is the last
    number given out; ``status_version`` rises with every change of a status, so that a CRL that is behind can be told
    without counting. ``responder_renewal_at`` is when somebody last set about renewing its OCSP responder.
    """

    __tablename__ = "authority"
    __table_args__ = (sa.Index("ix_authority_alias", "alias", "generation", unique=True),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(63), unique=True)
    subject: Mapped[str] = mapped_column(sa.Text)
    alias: Mapped[str] = mapped_column(sa.String(63), default=lambda context: context.get_current_parameters()["name"])
    generation: Mapped[int] = mapped_column(sa.Integer, default=1)
    key_label: Mapped[str] = mapped_column(sa.String(128), unique=True)
    certificate_der: Mapped[bytes | None]
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("authority.id"))
    crl_number: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    status_version: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    responder_renewal_at: Mapped[datetime | None]


class Certificate(Base):
    """One certificate from its intent on. ``serial`` is lower-case hex without leading zeros, unique over all authorities.

    ``origin`` is the actor's (see :class:`audit.log.Actor`): one certificate at most that is not abandoned has it.
    ``predecessor_id`` is the certificate this one renews, rekeys or replaces.

    ``tbs`` is what the key was asked to sign, written before it was asked. ``key_label`` is set when the subject's private
    key lives in our token. ``agency_id`` is the subscriber's agency at that time. ``revocation_reason`` is
    a name of RFC 5280, 5.3.1 (``keyCompromise``); with ``certificateHold`` the certificate is suspended, and ``revoked_at``
    becomes NULL when it is resumed (:class:`StatusEvent` keeps the history). ``crl_partition``: which part of the CRL the
    certificate names, 0 for the complete one.
    """

    __tablename__ = "certificate"
    __table_args__ = (
        sa.Index("ix_certificate_revoked", "authority_id", "revoked_at"),
        sa.Index("ix_certificate_origin", "origin", unique=True, sqlite_where=_STANDING, postgresql_where=_STANDING),
        # docs/adr/0022: each is walked by the inventory in its order, by reading no more rows than are wanted
        sa.Index("ix_certificate_of_subscriber", "subscriber_id", "id"),
        sa.Index("ix_certificate_of_agency", "agency_id", "id"),
        sa.Index("ix_certificate_of_agency_by_end", "agency_id", "not_after", "id"),
        sa.Index(
            "ix_certificate_revoked_of_agency",
            "agency_id",
            "id",
            sqlite_where=sa.text("revocation_reason IS NOT NULL"),
            postgresql_where=sa.text("revocation_reason IS NOT NULL"),
        ),
        sa.Index("ix_certificate_of_profile_by_end", "profile", "not_after", "id"),
        sa.Index("ix_certificate_of_state", "state", "id"),
        sa.Index("ix_certificate_of_profile", "profile", "id"),
        sa.Index("ix_certificate_by_end", "not_after", "id"),
        sa.Index(
            "ix_certificate_by_reason",
            "revocation_reason",
            "id",
            sqlite_where=sa.text("revocation_reason IS NOT NULL"),
            postgresql_where=sa.text("revocation_reason IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    serial: Mapped[str] = mapped_column(sa.String(40), unique=True)
    authority_id: Mapped[int] = mapped_column(sa.ForeignKey("authority.id"))
    subscriber_id: Mapped[int | None] = mapped_column(sa.ForeignKey("subscriber.id"))
    agency_id: Mapped[int | None] = mapped_column(sa.ForeignKey("agency.id"))
    profile: Mapped[str] = mapped_column(sa.String(40))
    subject: Mapped[str] = mapped_column(sa.Text)
    key_label: Mapped[str | None] = mapped_column(sa.String(128), index=True)
    spki_sha256: Mapped[str] = mapped_column(sa.String(64), index=True)
    state: Mapped[str] = mapped_column(sa.String(10))
    tbs: Mapped[bytes]
    der: Mapped[bytes | None]
    not_before: Mapped[datetime]
    not_after: Mapped[datetime]
    intended_at: Mapped[datetime]
    issued_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revocation_reason: Mapped[str | None] = mapped_column(sa.String(32))
    invalidity_date: Mapped[datetime | None]
    crl_partition: Mapped[int] = mapped_column(sa.Integer, default=0)
    origin: Mapped[str | None] = mapped_column(sa.String(80))
    predecessor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("certificate.id"), index=True)
    request_reference: Mapped[str | None] = mapped_column(sa.String(200))
    profile_version: Mapped[int | None]
    profile_sha256: Mapped[str | None] = mapped_column(sa.String(64))
    lints: Mapped[str | None] = mapped_column(sa.String(64))
    authority: Mapped[Authority] = relationship()
    subscriber: Mapped[Subscriber | None] = relationship()
    agency: Mapped[Agency | None] = relationship()


class ProfileVersion(Base):
    """A version of a profile that a certificate was issued under: what it said, and the SHA-256 over its canonical form.

    The primary key is what keeps two instances from issuing under one version that says different things.
    """

    __tablename__ = "profile_version"

    name: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(sa.String(64))
    terms: Mapped[dict[str, Any]]
    first_used_at: Mapped[datetime]


class LintSet(Base):
    """The names of the lints that certificates were issued under; ``name`` holds their versions and a digest over the list."""

    __tablename__ = "lint_set"

    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    lints: Mapped[list[str]] = mapped_column(sa.JSON)


class SubjectKey(Base):
    """A public key that was ever put into a certificate, and its one owner (``subscriber/h``, ``authority/n``, ``service/p``).

    The primary key is what keeps two processes from certifying one key for two owners; ``blocked_at`` is set when a
    certificate over it was revoked for key compromise.
    """

    __tablename__ = "subject_key"

    spki_sha256: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(sa.String(128))
    blocked_at: Mapped[datetime | None]


class StatusAct(StrEnum):
    """What happened to a certificate's standing."""

    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"


class StatusEvent(Base):
    """One change of one certificate's standing. The database refuses to change or delete it.

    ``version`` is the authority's ``status_version`` that the change made. ``reason`` is a CRLReason (NULL for a resumption),
    ``ground`` the legal one where it was stated (:class:`pki.grounds.Ground`), ``since`` from when a revocation counts.
    """

    __tablename__ = "status_event"
    __table_args__ = (sa.Index("ix_status_event_version", "authority_id", "version"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    certificate_id: Mapped[int] = mapped_column(sa.ForeignKey("certificate.id"), index=True)
    authority_id: Mapped[int] = mapped_column(sa.ForeignKey("authority.id"))
    version: Mapped[int] = mapped_column(sa.BigInteger)
    act: Mapped[str] = mapped_column(sa.String(10))
    at: Mapped[datetime]
    since: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(sa.String(32))
    ground: Mapped[str | None] = mapped_column(sa.String(40))
    invalidity_date: Mapped[datetime | None]
    actor: Mapped[str] = mapped_column(sa.String(200))


class StatusReceipt(Base):
    """What the caller of a status change got, and since when our own OCSP and CRL were seen to tell of it.

    ``watched_until`` ends the watching; ``problem`` is what the last look ran into.
    """

    __tablename__ = "status_receipt"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    event_id: Mapped[int] = mapped_column(sa.ForeignKey("status_event.id"), unique=True)
    made_at: Mapped[datetime]
    crl_number: Mapped[int | None] = mapped_column(sa.BigInteger)
    ocsp_seen_at: Mapped[datetime | None]
    crl_seen_at: Mapped[datetime | None]
    watched_until: Mapped[datetime] = mapped_column(index=True)
    problem: Mapped[str | None] = mapped_column(sa.String(300))


class Crl(Base):
    """One CRL of an authority, kept for ever; ``status_version`` is the authority's at the moment its entries were read.

    ``partition`` 0 is the complete CRL, over everything the authority issued. A delta CRL names in ``base_number`` the full
    one it adds to, and shares its own ``number`` with the full CRL of the same moment, if there is one (RFC 5280, 5.2.3).
    """

    __tablename__ = "crl"
    __table_args__ = (
        sa.UniqueConstraint("authority_id", "number", "delta"),
        sa.Index("ix_crl_newest", "authority_id", "partition", "delta", "state", "number"),
    )

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    authority_id: Mapped[int] = mapped_column(sa.ForeignKey("authority.id"))
    number: Mapped[int] = mapped_column(sa.BigInteger)
    status_version: Mapped[int] = mapped_column(sa.BigInteger)
    state: Mapped[str] = mapped_column(sa.String(10))
    partition: Mapped[int] = mapped_column(sa.Integer, default=0)
    delta: Mapped[bool] = mapped_column(default=False)
    base_number: Mapped[int | None] = mapped_column(sa.BigInteger)
    der: Mapped[bytes | None]
    this_update: Mapped[datetime]
    next_update: Mapped[datetime]
    published_at: Mapped[datetime | None]


class OcspRecord(Base):
    """One status that was signed: which serial of which authority, when, and what was said of it."""

    __tablename__ = "ocsp_record"
    __table_args__ = (sa.Index("ix_ocsp_record_serial", "serial", "id"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    at: Mapped[datetime]
    authority_id: Mapped[int] = mapped_column(sa.ForeignKey("authority.id"))
    serial: Mapped[str] = mapped_column(sa.String(80))
    status: Mapped[str] = mapped_column(sa.String(10))


class OcspEvidence(Base):
    """An OCSP response that is kept because it proves how one certificate stood at ``at`` (docs/adr/0021).

    ``status_version`` is the authority's when its statuses were read. ``der`` is the response as it was sent, valid from the
    second of ``at`` to ``next_update``.
    """

    __tablename__ = "ocsp_evidence"
    __table_args__ = (sa.Index("ix_ocsp_evidence_certificate", "certificate_id", "id"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    certificate_id: Mapped[int] = mapped_column(sa.ForeignKey("certificate.id"))
    at: Mapped[datetime]
    next_update: Mapped[datetime]
    status_version: Mapped[int] = mapped_column(sa.BigInteger)
    der: Mapped[bytes]


class TrustAnchor(Base):
    """An authority of somebody else's that an admin decided to trust, pinned by ``sha256`` (of the DER, lower-case hex).

    ``domain`` labels whose trust it is (``cong-vu``, ``public``); ``removed_at`` ends the trust and keeps the memory of it.
    """

    __tablename__ = "trust_anchor"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    sha256: Mapped[str] = mapped_column(sa.String(64), unique=True)
    domain: Mapped[str] = mapped_column(sa.String(32))
    subject: Mapped[str] = mapped_column(sa.Text)
    der: Mapped[bytes]
    installed_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class ForeignCrl(Base):
    """The newest CRL that was imported of an authority which is not ours; ``issuer_sha256`` is of its certificate's DER."""

    __tablename__ = "foreign_crl"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    issuer_sha256: Mapped[str] = mapped_column(sa.String(64), unique=True)
    issuer: Mapped[str] = mapped_column(sa.Text)
    der: Mapped[bytes]
    this_update: Mapped[datetime]
    next_update: Mapped[datetime]
    imported_at: Mapped[datetime]


class ExternalCertificate(Base):
    """A key of our token that somebody else certifies: from our request (PKCS #10) to their certificate.

    ``request_der`` is NULL until the key has signed it; everything from ``domain`` on is NULL until the certificate was
    imported. ``chain_pem``: its issuers, its own first, the anchor last. ``withdrawn_at``: it is not used from then on.
    """

    __tablename__ = "external_certificate"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"), index=True)
    key_label: Mapped[str] = mapped_column(sa.String(128), index=True)
    spki_sha256: Mapped[str] = mapped_column(sa.String(64))
    requested_at: Mapped[datetime]
    request_der: Mapped[bytes | None]
    domain: Mapped[str | None] = mapped_column(sa.String(32))
    serial: Mapped[str | None] = mapped_column(sa.String(40), index=True)
    sha256: Mapped[str | None] = mapped_column(sa.String(64), unique=True)
    der: Mapped[bytes | None]
    chain_pem: Mapped[str | None] = mapped_column(sa.Text)
    not_before: Mapped[datetime | None]
    not_after: Mapped[datetime | None]
    imported_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]
    subscriber: Mapped[Subscriber] = relationship()


class Backup(Base):
    """A backup that was completed; ``sha256`` is its manifest's."""

    __tablename__ = "backup"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    at: Mapped[datetime]
    sha256: Mapped[str] = mapped_column(sa.String(64))


class HolderText(Base):
    """By what words a holder is found: those of every name a certificate of theirs ever bore, without accents (docs/adr/0019).

    ``words`` are in order, each once, each between two blanks: `` an noi nguyen so van vu ``.
    """

    __tablename__ = "holder_text"

    subscriber_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"), primary_key=True, autoincrement=False)
    words: Mapped[str] = mapped_column(sa.Text)


class HolderAgency(Base):
    """That a certificate of the holder names the agency as theirs, now or once: in a search by both, the holders to look at."""

    __tablename__ = "holder_agency"

    agency_id: Mapped[int] = mapped_column(sa.ForeignKey("agency.id"), primary_key=True, autoincrement=False)
    subscriber_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"), primary_key=True, autoincrement=False)


class InventorySummary(Base):
    """The one row with the certificates counted, and the moment they were counted at."""

    __tablename__ = "inventory_summary"

    id: Mapped[int] = mapped_column(Record, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    counts: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)
