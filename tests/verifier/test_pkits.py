"""NIST's PKI test suite (PKITS) through our own chain validation: every case, and the exceptions with their reason.

The data is the labelled copy inside the source distribution of pyhanko-certvalidator, which ``make setup-development`` puts
into the environment's folder ``test-data``, checked against its hash in the lock file.
"""

from __future__ import annotations

import json
import sys
import tarfile
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from core.errors import CondauError
from pki.trust import TrustMaterial
from verifier.certificates import Purpose, judge_certificate
from verifier.context import Context
from verifier.reading import reading

AT = datetime(2022, 5, 1, tzinfo=UTC)
"""Within the validity of what is meant to be valid."""
NOT_OF_THE_CHAIN = {"WEAK_KEY", "CHAIN_ALGORITHM", "WRONG_KEY_USAGE"}
"""What we find beside RFC 5280: the suite is of 2011 (SHA-256 with RSA-2048, DSA-1024), and some of its leaves are authorities."""

POLICY = "the service takes no initial policy set, explicit policy or inhibition: it validates for any policy"
DSA = "DSA keys are not taken"
REASONS = "a list for some reasons only is not relied on: the status stays unknown, and a revocation on it is not good either"
INDIRECT = "a list issued by another authority (indirect CRL) is not relied on: the status stays unknown"
EXCEPTIONS = {
    "valid_dsa_signatures_test4": DSA,
    "valid_dsa_parameter_inheritance_test5": DSA,
    "all_certs_same_policy_test1_with_constraint_mismatch": POLICY,
    "all_certificates_no_policies_test2_force_explicit": POLICY,
    "different_policies_test3_force_explicit": POLICY,
    "different_policies_test3_force_explicit_with_user_set": POLICY,
    "overlapping_policies_test6_with_testpol2": POLICY,
    "overlapping_policies_test6_with_testpol2_explicit": POLICY,
    "any_policy_test14_with_testpol2": POLICY,
    "valid_policy_mapping_test2_with_testpol2": POLICY,
    "valid_policy_mapping_test2_inhibit_mapping": POLICY,
    "valid_policy_mapping_test2_inhibit_mapping_testpol1": POLICY,
    "valid_policy_mapping_test3_with_testpol1": POLICY,
    "valid_policy_mapping_test5_with_testpol6": POLICY,
    "valid_policy_mapping_test6_with_testpol6": POLICY,
    "inhibit_any_policy_test3_initial_inhibit": POLICY,
    "valid_onlysomereasons_test18": REASONS,
    "valid_onlysomereasons_test19": REASONS,
    "valid_idp_with_indirectcrl_test22": INDIRECT,
    "valid_idp_with_indirectcrl_test24": INDIRECT,
    "valid_idp_with_indirectcrl_test25": INDIRECT,
    "valid_crlissuer_test28": INDIRECT,
    "valid_crlissuer_test29": INDIRECT,
    "valid_crlissuer_test30": INDIRECT,
    "valid_crlissuer_test33": INDIRECT,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One case: whether NIST says the path is valid, under the parameters that the case states."""

    name: str
    leaf: str
    hints: tuple[str, ...]
    crls: tuple[str, ...]
    valid: bool


@cache
def suite() -> tuple[Mapping[str, bytes], tuple[Case, ...]]:
    """The files of the suite by name, and its cases."""
    found = sorted(Path(sys.prefix, "test-data").glob("pyhanko_certvalidator-*.tar.gz"))
    assert found, "the suite is not there: run `make setup-development`"
    with tarfile.open(found[-1]) as archive:
        members = [member for member in archive if "/fixtures/nist_pkits/" in member.name and member.isfile()]
        files = {Path(member.name).name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]  # a file
    return files, tuple(_case(item) for item in json.loads(files["pkits.json"]))


def _case(item: Mapping[str, Any]) -> Case:
    hints, crls = tuple(item.get("other_certs", ())), tuple(item.get("crls", ()))
    return Case(item["name"], item["cert"], hints, ("TrustAnchorRootCRL.crl", *crls), valid="error" not in item)


def findings(case: Case) -> set[str]:
    """The codes of what our validation finds wrong with the path; a certificate that cannot be read is one of them."""
    files, _ = suite()

    def load(name: str) -> x509.Certificate:
        with reading("certificate"):
            return x509.load_der_x509_certificate(files[name])

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # some serial numbers are negative on purpose
            trust = TrustMaterial(anchors=(load("TrustAnchorRootCertificate.crt"),), intermediates=(), crls=())
            hints = [load(name) for name in case.hints]
            crls = [files[name] for name in case.crls]
            judged = judge_certificate(
                load(case.leaf),
                Context(trust=trust, now=AT),
                purpose=Purpose.SIGNING,
                at=AT,
                proven=True,
                hints=hints,
                crls=crls,
            )
    except CondauError:
        return {"UNREADABLE"}
    return {finding.code for finding in judged.findings} - NOT_OF_THE_CHAIN


def test_every_case_ends_as_nist_says_but_the_listed_exceptions() -> None:
    _, cases = suite()
    assert len(cases) == 246
    wrong = {case.name for case in cases if (not findings(case)) != case.valid}
    assert wrong == set(EXCEPTIONS)


def test_what_is_excepted_for_its_lists_is_refused_not_accepted() -> None:
    """An exception may cost us a valid path; only those about policies may let one pass that its parameters refuse."""
    _, cases = suite()
    lenient = Counter(EXCEPTIONS[case.name] for case in cases if case.name in EXCEPTIONS and not findings(case))
    assert lenient == {POLICY: 14}


@pytest.mark.parametrize("code", ["REVOCATION_UNKNOWN", "CERTIFICATE_REVOKED", "CHAIN_BROKEN", "CERTIFICATE_EXPIRED", "UNTRUSTED"])
def test_the_suite_reaches_every_way_to_fail(code: str) -> None:
    _, cases = suite()
    assert any(code in findings(case) for case in cases if not case.valid)
