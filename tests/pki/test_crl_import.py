"""A CRL made elsewhere by one of our authorities' keys: taken in whole, or refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from core.errors import Conflict, Malformed, Rejected
from hsm.keys import KeySpec
from pki.crl_import import take_in_crl
from tests.pki.house import ADMIN, House
from tests.software_keys import make_key


def _offline_crl(house: House, number: int, *serials: str, key: Any = None) -> bytes:
    """What the root's key signs on a machine that we are not."""
    name = house.issue().chain[-1].subject
    at: datetime = house.clock()
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(at).next_update(at + timedelta(days=90))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for serial in serials:
        reason = x509.CRLReason(x509.ReasonFlags.cessation_of_operation)
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(at)
        builder = builder.add_revoked_certificate(entry.add_extension(reason, critical=False).build())
    signing = key or house.keys.key("ca-root")
    return builder.sign(signing, hashes.SHA384()).public_bytes(Encoding.DER)


def test_it_becomes_the_newest_with_every_revocation_on_it(house: House) -> None:
    known = format(house.issue().chain[0].serial_number, "x")
    der = _offline_crl(house, 50, known, "abcdef")
    taken = take_in_crl(house.database, der, at=house.clock(), actor=ADMIN)
    assert (taken.authority, taken.number, taken.revoked, taken.lost) == ("root", 50, (known,), ("abcdef",))
    assert house.crl.current("root").der == der
    assert house.row(known).revocation_reason == "cessationOfOperation"
    following = house.crl.publish("root", actor=ADMIN)
    assert following.number == 51
    assert {"abcdef", known} <= house.crl_serials("root")


def test_an_older_a_shorter_and_a_strangers_one_are_refused(house: House) -> None:
    take_in_crl(house.database, _offline_crl(house, 50, "abcdef"), at=house.clock(), actor=ADMIN)
    for der, error in (
        (_offline_crl(house, 50, "abcdef"), Conflict),
        (_offline_crl(house, 60), Conflict),
        (_offline_crl(house, 60, "abcdef", key=make_key(KeySpec.P_384)), Rejected),
        (b"nothing", Malformed),
    ):
        with pytest.raises(error):
            take_in_crl(house.database, der, at=house.clock(), actor=ADMIN)
    assert house.crl_serials("root") == {"abcdef"}
