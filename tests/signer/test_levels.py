"""Levels up to B-LTA: what is put into the file, and what happens while a part is away."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from audit.log import Actor
from core.content import Content
from core.errors import Unavailable
from pki.crl import CrlPublisher
from signer.levels import Reached
from signer.options import PadesLevel, PdfOptions
from signer.service import Signer
from tests.conftest import Clock
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.pdfs import make_hybrid, make_pdf, qpdf
from tests.signer.test_signing import actions, records

pytestmark = pytest.mark.one_database  # the signed document is looked at


@dataclass(frozen=True)
class Store:
    """The /DSS of a file, read by a parser that is not ours."""

    certificates: list[x509.Certificate]
    crls: list[x509.CertificateRevocationList]
    ocsps: list[ocsp.OCSPResponse]
    notes: int


def read_store(document: bytes, password: str = "") -> Store:
    """What qpdf's library finds in it; nothing may be in it twice."""
    with pikepdf.open(io.BytesIO(document), password=password) as pdf:
        found: dict[str, list[bytes]] = {}
        store: Any = pdf.Root.DSS
        for name in ("/Certs", "/CRLs", "/OCSPs"):
            found[name] = [one.read_bytes() for one in store.get(name, [])]
            assert len(set(found[name])) == len(found[name])
        notes = len(store.VRI)
    return Store(
        [x509.load_der_x509_certificate(der) for der in found["/Certs"]],
        [x509.load_der_x509_crl(der) for der in found["/CRLs"]],
        [ocsp.load_der_ocsp_response(der) for der in found["/OCSPs"]],
        notes,
    )


def check_ltv(store: Store, leaves: list[x509.Certificate], root: x509.Certificate) -> None:
    """Adobe's condition: issuers up to the root and a status of each certificate below it, and of whoever signed the statuses."""
    waiting = [*leaves, *(one for answer in store.ocsps for one in answer.certificates)]
    for certificate in waiting:
        if certificate == root:
            continue
        issuers = [one for one in store.certificates if one.subject == certificate.issuer]
        assert issuers, f"no issuer of {certificate.subject}"
        if certificate in leaves or certificate in store.certificates:
            assert certificate in store.certificates
        assert _has_status(certificate, issuers[0], store), f"no status of {certificate.subject}"
        if issuers[0] not in waiting:
            waiting.append(issuers[0])


def _has_status(certificate: x509.Certificate, issuer: x509.Certificate, store: Store) -> bool:
    if any(extension.oid == x509.OCSPNoCheck.oid for extension in certificate.extensions):
        return True
    listed = any(crl.issuer == issuer.subject for crl in store.crls)
    return listed or any(answer.serial_number == certificate.serial_number for answer in store.ocsps)


def stamping(house: House) -> list[x509.Certificate]:
    return list(house.tsa.signers())


@pytest.mark.parametrize("level", ["B-LT", "B-LTA"])
def test_everything_needed_later_is_in_the_store(house: House, level: PadesLevel) -> None:
    document = make_pdf()
    signed = sign_pdf(house.signer, document, PdfOptions(level=level), CLIENT)
    assert signed.startswith(document)
    store = read_store(signed)
    leaf = house.identity().certificate
    check_ltv(store, [leaf, *stamping(house)], house.root)
    (about,) = (answer for answer in store.ocsps if answer.serial_number == leaf.serial_number)
    assert about.this_update_utc >= house.now().replace(microsecond=0)  # not older than the timestamp, to OCSP's second
    assert store.notes == 1
    with pikepdf.open(io.BytesIO(signed)) as pdf:
        kinds = [str(field.V.SubFilter) for field in pdf.Root.AcroForm.Fields]
    assert kinds == ["/ETSI.CAdES.detached"] + ["/ETSI.RFC3161"] * (level == "B-LTA")


def test_one_signature_at_lta_is_two_revisions(house: House) -> None:
    document = make_pdf()
    signed = sign_pdf(house.signer, document, PdfOptions(), CLIENT)
    assert signed.count(b"startxref") == document.count(b"startxref") + 2


def test_a_second_signature_puts_nothing_in_twice(house: House, clock: Clock) -> None:
    once = sign_pdf(house.signer, make_pdf(), PdfOptions(), CLIENT)
    clock.move(hours=1)
    twice = sign_pdf(house.signer, once, PdfOptions(), CLIENT)
    first, second = read_store(once), read_store(twice)
    assert second.certificates == first.certificates
    assert second.crls == first.crls
    assert len(second.ocsps) == 2 * len(first.ocsps)  # fresh answers for the new signature
    assert second.notes == 2


@pytest.mark.parametrize("kind", ["encrypted", "hybrid", "xref stream", "table", "object streams"])
def test_every_build_of_pdf_takes_a_store(house: House, tmp_path: Path, kind: str) -> None:
    password = "mo" if kind == "encrypted" else ""
    document = make_hybrid() if kind == "hybrid" else make_pdf(xref_stream=kind != "table")
    if kind == "encrypted":
        document = qpdf(tmp_path, document, "--encrypt", password, "chu", "256", "--")
    elif kind == "object streams":
        document = qpdf(tmp_path, document, "--object-streams=generate", "--linearize")
    signed = sign_pdf(house.signer, document, PdfOptions(password=password or None), CLIENT)
    assert signed.startswith(document)
    check_ltv(read_store(signed, password), [house.identity().certificate, *stamping(house)], house.root)


class Away:
    """A time-stamping authority that has gone: from the start, or after the signature's own timestamp."""

    def __init__(self, house: House, *, at_once: bool) -> None:
        self._house = house
        self._at_once = at_once

    def stamp_digest(self, digest: bytes, actor: Actor) -> bytes:  # noqa: ARG002 - the protocol's
        raise Unavailable("tsa", "it is away")

    def signers(self) -> tuple[x509.Certificate, ...]:
        if self._at_once:
            raise Unavailable("tsa", "it is away")
        return self._house.tsa.signers()


def signer_with(house: House, stamper: Away, when_away: str) -> Signer:
    return house.signer_with(house.tsa.stamp, levels=house.levels(when_away, stamper))


def test_no_key_is_used_while_timestamps_are_known_to_be_away(house: House) -> None:
    with pytest.raises(Unavailable, match="it is away"):
        sign_pdf(signer_with(house, Away(house, at_once=True), "refuse"), make_pdf(), PdfOptions(), CLIENT)
    assert not records(house.database)


def test_no_key_is_used_while_a_status_cannot_be_had(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("hsm", "the token is away")

    monkeypatch.setattr(CrlPublisher, "current", away)
    with pytest.raises(Unavailable, match="no revocation status"):
        sign_pdf(house.signer, make_pdf(), PdfOptions(), CLIENT)
    assert not records(house.database)


@pytest.mark.parametrize(("at_once", "reached"), [(True, "B-B"), (False, "B-T")])
def test_by_policy_the_level_is_lower_and_that_is_told_and_written_down(house: House, at_once: bool, reached: str) -> None:
    told: list[Reached] = []
    signer = signer_with(house, Away(house, at_once=at_once), "lower")
    signed = signer.sign_pdf(Content.of(make_pdf()), PdfOptions(), CLIENT, lowered=told.append)
    assert [one.level for one in told] == [reached]
    assert b"/DSS" not in signed.read(0, signed.size)
    (row,) = records(house.database)
    assert (row.level, row.reached, row.why_lower) == ("B-LTA", reached, "it is away")
    assert actions(house.database)[-1] == "signature.lower"
