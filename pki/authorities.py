"""The authorities an instance starts with: a root, an issuing authority below it, OCSP responders, the time-stamping unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from audit.log import Actor
from hsm.keys import KeySpec
from pki.ca import CertificateAuthority
from pki.crl import CrlPublisher
from pki.profile import build_subject

ROOT: Final = "root"
ISSUING: Final = "issuing"


@dataclass(frozen=True, slots=True)
class Organisation:
    """Who runs the authorities: ``name`` becomes O and ``locality`` L of their names.

    ``identifier``, where there is one, becomes organizationIdentifier in the names of the service's own certificates, which are
    those of a legal person (ETSI EN 319 412-3, 4.2.1).
    """

    name: str
    locality: str
    identifier: str = ""


def create_authorities(ca: CertificateAuthority, crl: CrlPublisher, *, organisation: Organisation, actor: Actor) -> None:
    """Create what is not there yet; typed again after a crash it goes on where that happened.

    A responder or time-stamping certificate whose key has less than a third of its time left gets a successor, from
    the newest generation of its authority. Raises Conflict when the authorities were begun under another organisation.
    """
    names = {ROOT: f"{organisation.name} Root CA", ISSUING: f"{organisation.name} Issuing CA"}
    specs = {ROOT: KeySpec.P_384, ISSUING: KeySpec.P_256}
    standing = crl.authorities()
    for name in (ROOT, ISSUING):
        if name not in standing:
            subject = build_subject(organization=organisation.name, locality=organisation.locality, common_name=names[name])
            ca.create_authority(name, subject=subject, spec=specs[name], issuer=None if name == ROOT else ROOT, actor=actor)
    services = {
        ("ocsp-responder", ROOT): f"{organisation.name} OCSP Root",
        ("ocsp-responder", ISSUING): f"{organisation.name} OCSP",
        ("tsa", ISSUING): f"{organisation.name} TSA",
    }
    for (profile, alias), common_name in services.items():
        issuer = ca.newest(alias)
        if not ca.has_lasting_service(profile, issuer):
            subject = build_subject(organization=organisation.name, locality=organisation.locality, common_name=common_name)
            if organisation.identifier:
                subject = x509.Name([*subject, x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, organisation.identifier)])
            ca.issue_service(profile=profile, subject=subject, issuer=issuer, spec=KeySpec.P_256, actor=actor)
    crl.refresh()
