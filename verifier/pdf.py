"""PDF signatures (ISO 32000-2 clause 12.8, PAdES EN 319 142-1): read, check, and see what happened to the file since."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from pyhanko.pdf_utils import generic
from pyhanko.sign.fields import MDPPerm

from core.errors import Malformed
from verifier.certificates import is_covered
from verifier.cms import TST_INFO, SignedMessage, check_signed_data, find_signer, parse_signed_data
from verifier.conclusion import best_signature_time, conclude
from verifier.context import Context, Evidence
from verifier.octets import Digests, Octets
from verifier.pdf_changes import UNCLEAR, name_changes
from verifier.pdf_reader import BoundedReader, NeedsPassword, open_pdf
from verifier.pdf_rules import Step, certification, judge_step, locked_fields
from verifier.pdf_sentences import (
    FILE_UNREADABLE,
    NOT_A_REVISION,
    ONLY_MATERIAL,
    ORPHANED,
    PLACEHOLDER,
    TOO_MUCH,
    broken,
    byte_range_wrong,
    describe,
    field_locked,
    later_signatures,
    left_over,
    not_read,
    not_understood,
    unreadable,
)
from verifier.pdf_store import read_store
from verifier.pdf_structure import FoundSignature, bytes_left_over, find_orphans, find_signatures, signed_revision
from verifier.reading import reading
from verifier.timestamps import verify_timestamp
from verifier.verdict import Coverage, Finding, Indication, SignatureVerdict, SubIndication, Timestamp

_MOST_STEPS: Final = 60
_DETACHED: Final = {"/ETSI.CAdES.detached", "/adbe.pkcs7.detached"}
_HASHED_INSIDE: Final = "/adbe.pkcs7.sha1"


@dataclass(frozen=True, slots=True)
class PdfVerdicts:
    """What a PDF holds: signatures in the order they were made, and document timestamps."""

    signatures: tuple[SignatureVerdict, ...]
    timestamps: tuple[Timestamp, ...]
    findings: tuple[Finding, ...] = ()


def verify_pdf(digests: Digests, context: Context, password: str | None = None) -> PdfVerdicts:
    """Judge every signature of a document, which ``password`` opens where it is encrypted.

    Raises NeedsPassword or Malformed when the file as a whole cannot be read.
    """
    document = digests.content
    try:
        reader = open_pdf(document, password)
        found = find_signatures(reader, document)
    except NeedsPassword:
        raise
    except Malformed:
        orphans = find_orphans(document)
        if not orphans:
            raise
        # the file does not read, and yet it carries signatures: each is a failure of its own
        verdicts = [conclude(unreadable(one.name, FILE_UNREADABLE), context) for one in orphans]
        return PdfVerdicts(tuple(verdicts), ())
    if all(one.placeholder for one in found):
        return PdfVerdicts((), (), (PLACEHOLDER,) if found else ())
    # beside real signatures a placeholder is an unsigned field dressed up as one: it is judged, and fails
    return _Verification(reader, digests, found, context).verdicts()


class _Verification:
    """One file on its way through."""

    def __init__(self, reader: BoundedReader, digests: Digests, found: Sequence[FoundSignature], context: Context) -> None:
        self._reader = reader
        self._document = digests.content
        self._digests = digests
        digests.excuse = reader.allowance.excuse
        self._found = found
        self._context = context
        self._steps: dict[int, Step | Malformed] = {}
        self._permission = self._certification()
        self._store = read_store(reader)

    def verdicts(self) -> PdfVerdicts:
        stamps = self._document_timestamps()
        signatures = [self._signature(one, _over(one, stamps)) for one in self._found if not _is_document_timestamp(one)]
        return PdfVerdicts(tuple(signatures), tuple(stamp for _, stamp in stamps))

    def _document_timestamps(self) -> list[_Stamped]:
        """In their order in the file, judged from the newest to the oldest: each shows until when those under it existed."""
        found = [one for one in self._found if _is_document_timestamp(one)]
        judged: list[_Stamped] = []
        for one in sorted(found, key=_end, reverse=True):
            judged.insert(0, (one, self._document_timestamp(one, best_signature_time(_over(one, judged)))))
        return judged

    def _signature(self, found: FoundSignature, document_timestamps: tuple[Timestamp, ...]) -> SignatureVerdict:
        try:
            with reading("signature"):
                evidence = self._evidence(found, best_signature_time(document_timestamps))
        except Malformed as problem:
            return conclude(unreadable(found.name, not_read(problem)), self._context)
        evidence = dataclasses.replace(evidence, timestamps=(*evidence.timestamps, *document_timestamps))
        try:
            with reading("certificate"):
                return conclude(self._with_level(found, evidence), self._context)
        except Malformed as problem:
            return conclude(unreadable(found.name, not_read(problem)), self._context)

    def _with_level(self, found: FoundSignature, evidence: Evidence) -> Evidence:
        """Whether the file carries what is needed to judge the signature later, and a timestamp over that."""
        if evidence.certificate is None or not evidence.baseline or not any(one.intact for one in evidence.timestamps):
            return evidence
        stamps = [one for one in self._found if _is_document_timestamp(one) and _end(one) > _end(found)]
        tokens = [*parse_signed_data(found.contents).timestamps[:_MOST_TIMESTAMPS], *(one.contents for one in stamps)]
        leaves = [evidence.certificate, *filter(None, map(self._stamper, tokens))]
        at = best_signature_time(evidence.timestamps) or self._context.now
        hints, crls, ocsps = evidence.certificates, evidence.crls, evidence.ocsps
        complete = all(is_covered(one, self._context, at=at, hints=hints, crls=crls, ocsps=ocsps) for one in leaves)
        return dataclasses.replace(evidence, complete=complete, archived=any(map(self._stamps_store, stamps)))

    def _stamper(self, token: bytes) -> x509.Certificate | None:
        try:
            return find_signer(parse_signed_data(token), self._store.certificates)[0]
        except Malformed:
            return None

    def _stamps_store(self, stamp: FoundSignature) -> bool:
        """Whether the file had its store when this timestamp was put over it."""
        revision = signed_revision(self._reader, self._document, _end(stamp))
        return revision is not None and "/DSS" in self._reader.get_historical_resolver(revision).root

    def _evidence(self, found: FoundSignature, existed_at: datetime | None) -> Evidence:
        if found.problem is not None:
            return unreadable(found.name, byte_range_wrong(found.problem))
        message = parse_signed_data(found.contents)
        evidence = self._read_message(found, message, existed_at)
        if found.orphaned:
            evidence = dataclasses.replace(evidence, failure=evidence.failure or SubIndication.FORMAT_FAILURE)
            return dataclasses.replace(evidence, findings=(*evidence.findings, ORPHANED))
        coverage, changes, failure = self._coverage(found)
        return dataclasses.replace(evidence, coverage=coverage, changes=changes, failure=evidence.failure or failure)

    def _read_message(self, found: FoundSignature, message: SignedMessage, existed_at: datetime | None) -> Evidence:
        dictionary = found.dictionary or generic.DictionaryObject()
        filter_name = str(dictionary.get("/SubFilter", ""))
        trust = self._context.trust
        certificate, bound = find_signer(message, (*trust.intermediates, *trust.anchors))
        crls, ocsps = (*message.crls, *self._store.crls), (*message.ocsps, *self._store.ocsps)
        certificates = (*message.certificates, *self._store.certificates)
        signed = Octets(self._digests, found.signed_ranges)
        failure: SubIndication | None = None
        if filter_name == _HASHED_INSIDE:
            failure, signed = _unwrap_sha1(message, signed)
        elif message.content is not None or (filter_name not in _DETACHED and not found.orphaned):
            failure = SubIndication.FORMAT_FAILURE
        if certificate is None:
            failure = failure or SubIndication.NO_SIGNING_CERTIFICATE_FOUND
        elif failure is None:
            failure = check_signed_data(message, certificate.public_key(), signed)
        stamps = [
            verify_timestamp(
                token,
                Octets.of(message.signature),
                self._context,
                kind="signature",
                hints=certificates,
                crls=crls,
                ocsps=ocsps,
                existed_at=existed_at,
            )
            for token in message.timestamps[:_MOST_TIMESTAMPS]
        ]
        return Evidence(
            name=found.name,
            failure=failure,
            intact=failure is None and certificate is not None,
            certificate=certificate,
            certificates=certificates,
            crls=crls,
            ocsps=ocsps,
            bound=bound,
            digest_algorithm=_weakest(message, hashed_inside=filter_name == _HASHED_INSIDE),
            signature_algorithm=message.algorithm.scheme if message.algorithm else message.algorithm_name,
            claimed_at=message.claimed_at or _dictionary_date(dictionary),
            reason=_text(dictionary, "/Reason"),
            timestamps=tuple(stamps),
            baseline=filter_name == "/ETSI.CAdES.detached" and bound and certificate in message.certificates,
            findings=(broken(failure),) if failure is not None else (),
        )

    def _document_timestamp(self, found: FoundSignature, existed_at: datetime | None) -> Timestamp:
        if found.problem is not None:
            finding = byte_range_wrong(found.problem)
            return Timestamp(
                kind="document",
                indication=Indication.TOTAL_FAILED,
                sub_indication=SubIndication.FORMAT_FAILURE,
                findings=(finding,),
            )
        store = self._store
        stamp = verify_timestamp(
            found.contents,
            Octets(self._digests, found.signed_ranges),
            self._context,
            kind="document",
            crls=store.crls,
            ocsps=store.ocsps,
            hints=store.certificates,
            existed_at=existed_at,
        )
        _, changes, failure = self._coverage(found)
        if found.orphaned:
            failure, changes = SubIndication.FORMAT_FAILURE, (*changes, ORPHANED)
        if failure is None or stamp.indication is Indication.TOTAL_FAILED:
            return stamp
        return stamp.model_copy(
            update={"indication": failure.indication, "sub_indication": failure, "findings": (*stamp.findings, *changes)}
        )

    def _coverage(self, found: FoundSignature) -> tuple[Coverage | None, tuple[Finding, ...], SubIndication | None]:
        if found.byte_range is None or found.dictionary is None:
            return None, (), None
        end, size = found.byte_range.end, self._document.size
        revision = signed_revision(self._reader, self._document, end)
        total = self._reader.xrefs.total_revisions
        whole = end == size
        if revision is None and not whole:
            return describe(found.byte_range, None, total, whole=False), (NOT_A_REVISION,), SubIndication.FORMAT_FAILURE
        if whole:
            return describe(found.byte_range, total - 1, total, whole=True), (), None
        assert revision is not None  # noqa: S101 - for the type checker: settled two lines above
        coverage = describe(found.byte_range, revision, total, whole=False)
        extra = bytes_left_over(self._reader, self._document, end, revision)
        if extra is not None:
            return coverage, (left_over(extra),), SubIndication.FORMAT_FAILURE
        changes, failure = self._changes(found, revision)
        return coverage, changes, failure

    def _changes(self, found: FoundSignature, revision: int) -> tuple[tuple[Finding, ...], SubIndication | None]:
        last = self._reader.xrefs.total_revisions - 1
        if last - revision > _MOST_STEPS:
            return (TOO_MUCH,), SubIndication.SIG_CONSTRAINTS_FAILURE
        touched: frozenset[str] = frozenset()
        for number in range(revision, last):
            step = self._step(number)
            if isinstance(step, Malformed):
                return (not_understood(step),), SubIndication.SIG_CONSTRAINTS_FAILURE
            if step.objection is not None:
                return self._objection(revision, step.objection)
            touched |= step.touched_fields
        locked = locked_fields(found.dictionary, touched)
        if locked:
            return (field_locked(locked[0]),), SubIndication.FORMAT_FAILURE
        return (later_signatures(sorted(touched)) if touched else ONLY_MATERIAL,), None

    def _objection(self, revision: int, objection: str) -> tuple[tuple[Finding, ...], SubIndication]:
        history = self._reader.get_historical_resolver
        try:
            named = name_changes(history(revision), history(self._reader.xrefs.total_revisions - 1), objection)
        except Malformed as problem:
            named = [not_understood(problem)]
        unclear = all(finding.code in UNCLEAR for finding in named)
        return tuple(named), SubIndication.SIG_CONSTRAINTS_FAILURE if unclear else SubIndication.FORMAT_FAILURE

    def _step(self, number: int) -> Step | Malformed:
        """Each step is judged once, however many signatures stand before it."""
        if number not in self._steps:
            try:
                self._steps[number] = judge_step(self._reader, number, self._permission)
            except Malformed as problem:
                problem.__cause__ = problem.__context__ = None  # they hold what was being read
                self._steps[number] = problem.with_traceback(None)
        return self._steps[number]

    def _certification(self) -> MDPPerm | None:
        """The strictest DocMDP permission any signature of the file declares."""
        found = []
        for one in self._found:
            try:
                permission = certification(one.dictionary) if one.dictionary is not None else None
            except Malformed:
                permission = MDPPerm.NO_CHANGES  # declared, but unreadable: the strictest reading
            if permission is not None:
                found.append(permission)
        return min(found, key=lambda permission: permission.value, default=None)


_MOST_TIMESTAMPS: Final = 8
_Stamped = tuple[FoundSignature, Timestamp]
"""A document timestamp and the verdict on it."""


def _is_document_timestamp(found: FoundSignature) -> bool:
    if found.dictionary is not None:
        return bool(found.dictionary.get("/Type") == "/DocTimeStamp" or found.dictionary.get("/SubFilter") == "/ETSI.RFC3161")
    try:
        return parse_signed_data(found.contents).content_type == TST_INFO
    except Malformed:
        return False


def _end(found: FoundSignature) -> int:
    return found.byte_range.end if found.byte_range is not None else 0


def _over(found: FoundSignature, stamps: Sequence[_Stamped]) -> tuple[Timestamp, ...]:
    """Those of the document timestamps that cover it."""
    return tuple(stamp for holder, stamp in stamps if 0 < _end(found) <= _end(holder) and holder is not found)


def _unwrap_sha1(message: SignedMessage, signed: Octets) -> tuple[SubIndication | None, Octets]:
    """adbe.pkcs7.sha1 (ISO 32000-1 clause 12.8.3.3): the CMS signs the SHA-1 digest of the ranges, which it carries."""
    if message.content is None:
        return SubIndication.FORMAT_FAILURE, signed
    return (None if message.content == signed.digest("sha1") else SubIndication.HASH_FAILURE), Octets.of(message.content)


def _weakest(message: SignedMessage, *, hashed_inside: bool) -> str:
    if hashed_inside:
        return "sha1"
    names = {message.digest_algorithm, message.algorithm.digest if message.algorithm else message.digest_algorithm}
    return next((name for name in ("md5", "sha1") if name in names), message.digest_algorithm)


def _dictionary_date(dictionary: Any) -> datetime | None:
    try:
        with reading("M"):
            if "/M" not in dictionary:
                return None
            moment = generic.parse_pdf_date(str(dictionary["/M"]), strict=False)
            # without an offset the relation to UTC is unknown (ISO 32000-2 clause 7.9.4); UTC is what most mean
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except Malformed:
        return None


def _text(dictionary: Any, key: str) -> str | None:
    found = dictionary.get(key)
    return str(found)[:1000] if isinstance(found, str) else None
