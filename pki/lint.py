"""Lint: pkilint and our own rules, on what is about to be signed or published. An ERROR or FATAL finding stops it (docs/adr/0015).

pkilint is imported at the first use (0.2 s), its validators are made once per process; a certificate costs about 4 ms.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.errors import Rejected, Unavailable, Violation
from pki import lint_rules
from pki.lint_rules import Context
from pki.models import LintSet


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a lint found wrong enough to stop what was to be signed."""

    lint: str
    """``pkix.…`` of pkilint, ``condau.…`` of our own (:data:`pki.lint_rules.RULES`)."""
    message: str

    def __str__(self) -> str:
        return f"{self.lint}: {self.message}" if self.message else self.lint


def check_certificate_lints(certificate: x509.Certificate, context: Context) -> None:
    """Lint a draft (whoever signed it); raises Rejected with every finding, so that the authority's key is never asked."""
    found = lint_certificate(certificate, context)
    if found:
        raise Rejected.all([Violation("certificate", f"lint {item}") for item in found])


def check_ocsp_lints(der: bytes) -> None:
    """Lint an OCSP response; raises Unavailable with every finding."""
    withhold("OCSP response", lint_ocsp_response(der))


def lint_certificate(certificate: x509.Certificate, context: Context) -> list[Finding]:
    """What our rules and pkilint's say against it."""
    own = [Finding(name, message) for name, message in lint_rules.break_rules(certificate, context)]
    return own + _run(_certificates(), _load_certificate(certificate.public_bytes(Encoding.DER)))


def lint_crl(der: bytes) -> list[Finding]:
    """What pkilint says against a CRL; it takes 0.5 ms for each entry."""
    from pkilint import loader  # noqa: PLC0415 - costs 0.2 s, and who only verifies never needs it

    document = loader.RFC5280CertificateListDocumentLoader().load_der_document(der, "crl")
    return _run(_crls(), document)


def lint_ocsp_response(der: bytes) -> list[Finding]:
    """What pkilint says against an OCSP response."""
    from pkilint import loader  # noqa: PLC0415 - see above

    return _run(_ocsp_responses(), loader.RFC6960OCSPResponseDocumentLoader().load_der_document(der, "response"))


@lru_cache(maxsize=1)
def lint_set() -> tuple[str, Sequence[str]]:
    """The name of the set of lints in force (versions, and a digest over the list) and the names of all in it."""
    from pkilint import report  # noqa: PLC0415 - see above

    codes: set[str] = {*lint_rules.RULES, *lint_rules.CRL_RULES}
    for validator in (_certificates(), _crls(), _ocsp_responses()):
        codes |= {finding.code for finding in report.get_included_validations(validator)}
    listed = sorted(codes)
    digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
    return f"pkilint-{importlib.metadata.version('pkilint')}/condau-{lint_rules.VERSION}/{digest[:16]}", listed


def record_lint_set(db: Session) -> str:
    """Keep the list of lints in force, in the caller's transaction, unless it is kept; returns its name."""
    name, lints = lint_set()
    if db.get(LintSet, name) is None:
        try:
            with db.begin_nested():
                db.execute(sa.insert(LintSet).values(name=name, lints=list(lints)))
        except IntegrityError:
            pass  # another process has written the same
    return name


def withhold(what: str, found: Sequence[Finding]) -> None:
    """Raise Unavailable with every finding, if there is one."""
    if found:
        raise Unavailable("pki", f"the {what} was withheld: lint {'; '.join(str(item) for item in found)}")


def _run(validator: Any, document: Any) -> list[Finding]:
    from pkilint.validation import ValidationFindingSeverity  # noqa: PLC0415 - see above

    return [
        Finding(description.finding.code, description.message or "")
        for result in validator.validate(document.root)
        for description in result.finding_descriptions
        if description.finding.severity <= ValidationFindingSeverity.ERROR
    ]


def _load_certificate(der: bytes) -> Any:
    from pkilint import loader  # noqa: PLC0415 - see above

    return loader.RFC5280CertificateDocumentLoader().load_der_document(der, "draft")


@lru_cache(maxsize=1)
def _certificates() -> Any:
    from pkilint.pkix import certificate, extension, name  # noqa: PLC0415 - see above

    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@lru_cache(maxsize=1)
def _crls() -> Any:
    from pkilint import pkix  # noqa: PLC0415 - see above
    from pkilint.pkix import crl, extension, name  # noqa: PLC0415 - see above

    return crl.create_pkix_crl_validator_container(
        [pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS), pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS)],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )


@lru_cache(maxsize=1)
def _ocsp_responses() -> Any:
    from pkilint import pkix  # noqa: PLC0415 - see above
    from pkilint.pkix import extension, name, ocsp  # noqa: PLC0415 - see above

    decoders = [
        ocsp.create_response_decoder(),
        pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
        pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
    ]
    return ocsp.create_pkix_ocsp_response_validator_container(decoders, [])
