"""Key objects as a token holds them: found, read and made, over one open session.

A pair counts only when it is whole: both halves there under one CKA_ID, the public one readable, the private one marked as
generated in the token (CKA_LOCAL). A process killed in the middle of a generation leaves half a pair; nobody was ever told
of it, so it is passed over, and never destroyed, because a program that destroys keys on a guess will one day guess wrong.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11 import (
    Attribute,
    FunctionNotSupported,
    KeyType,
    Mechanism,
    MechanismFlag,
    ObjectClass,
    PKCS11Error,
    RandomNoRNG,
    Session,
)

from core.errors import Rejected
from hsm.keys import KeySpec
from hsm.token_keys import KeyName, PublicKey

_ED25519_PARAMETERS = (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519")
"""CKA_EC_PARAMS of Ed25519: the OID 1.3.101.112 (PKCS#11 3.1) and the older curve name."""
_CURVES: dict[bytes, ec.EllipticCurve] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
    bytes.fromhex("06052b81040023"): ec.SECP521R1(),
}
"""CKA_EC_PARAMS: the DER of the namedCurve OID (RFC 5480, section 2.1.1.1)."""
_PARAMETERS = {
    KeySpec.P_256: bytes.fromhex("06082a8648ce3d030107"),
    KeySpec.P_384: bytes.fromhex("06052b81040022"),
    KeySpec.P_521: bytes.fromhex("06052b81040023"),
}
_PUBLIC_ATTRIBUTES = (
    Attribute.ID,
    Attribute.KEY_TYPE,
    Attribute.MODULUS,
    Attribute.PUBLIC_EXPONENT,
    Attribute.EC_PARAMS,
    Attribute.EC_POINT,
)
_SIGN_ONLY = MechanismFlag.SIGN | MechanismFlag.VERIFY
_PRIVATE_TEMPLATE = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.SIGN: True,
}


def find(session: Session, kind: ObjectClass, label: str | None = None, key_id: bytes | None = None) -> list[Any]:
    """The objects of this kind, label and CKA_ID; raises PKCS11Error.

    python-pkcs11 leaves a search that did not run to its end, or could not begin, to the garbage collector, which then calls
    the module at a moment when another thread may be inside it. So a search is always run to its end, the session is asked
    for something smaller first, and what a failed search leaves behind is dropped before this function returns.
    """
    wanted: dict[Attribute, Any] = {Attribute.CLASS: kind}
    if label is not None:
        wanted[Attribute.LABEL] = label
    if key_id is not None:
        wanted[Attribute.ID] = key_id
    with suppress(RandomNoRNG, FunctionNotSupported):
        session.generate_random(64)
    try:
        return list(session.get_objects(wanted))
    except PKCS11Error as error:
        failure = error.with_traceback(None)
    raise failure


def find_pairs(session: Session, label: str) -> list[tuple[KeyName, PublicKey]]:
    """Every whole key pair with this label."""
    private = [item.get_attributes([Attribute.ID, Attribute.LOCAL]) for item in find(session, ObjectClass.PRIVATE_KEY, label)]
    whole = {found[Attribute.ID] for found in private if found.get(Attribute.ID) and found.get(Attribute.LOCAL, True)}
    pairs = []
    for item in find(session, ObjectClass.PUBLIC_KEY, label):
        attributes = item.get_attributes(list(_PUBLIC_ATTRIBUTES))
        public_key = parse_public_key(attributes)
        if public_key is not None and attributes.get(Attribute.ID) in whole:
            pairs.append((KeyName(label, attributes[Attribute.ID]), public_key))
    return pairs


def private_labels(session: Session) -> list[str]:
    """The label of every private key in the token, sorted; halves of a pair included."""
    found = [item.get_attributes([Attribute.LABEL]) for item in find(session, ObjectClass.PRIVATE_KEY)]
    return sorted(attributes[Attribute.LABEL] for attributes in found if Attribute.LABEL in attributes)


def parse_public_key(attributes: Mapping[Attribute, Any]) -> PublicKey | None:
    """The public key that a public key object's attributes say, or None when it is half-made or of a kind not used here."""
    kind = attributes.get(Attribute.KEY_TYPE)
    try:
        if kind == KeyType.RSA:
            exponent = int.from_bytes(attributes[Attribute.PUBLIC_EXPONENT], "big")
            return rsa.RSAPublicNumbers(exponent, int.from_bytes(attributes[Attribute.MODULUS], "big")).public_key()
        if kind not in (KeyType.EC, KeyType.EC_EDWARDS):
            return None
        parameters, point = attributes[Attribute.EC_PARAMS], attributes[Attribute.EC_POINT]
        if parameters in _ED25519_PARAMETERS:
            return ed25519.Ed25519PublicKey.from_public_bytes(_bare_point(point, 32))
        curve = _CURVES[parameters]
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, _bare_point(point, 1 + 2 * ((curve.key_size + 7) // 8)))
    except (KeyError, ValueError):
        return None


def _bare_point(value: bytes, length: int) -> bytes:
    """The point in CKA_EC_POINT: a DER OCTET STRING by the standard, the bare ``length`` bytes in some modules."""
    header = bytes((0x04, length)) if length < 128 else bytes((0x04, 0x81, length))
    return value.removeprefix(header) if len(value) == len(header) + length else value


def check_offered(spec: KeySpec, offered: frozenset[Mechanism]) -> None:
    """Raise Rejected unless a token with these mechanisms makes keys of this kind."""
    needed = {Mechanism.RSA_PKCS_KEY_PAIR_GEN}
    if spec in _PARAMETERS:
        needed = {Mechanism.EC_KEY_PAIR_GEN}
    elif spec is KeySpec.ED25519:
        needed = {Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Mechanism.EDDSA}
    if not needed <= offered:
        raise Rejected("key", f"the token does not make {spec.value} keys: choose another kind")


def new_name(label: str) -> KeyName:
    """A name for a key to be made: its label and a random CKA_ID, which no other key has."""
    return KeyName(label, secrets.token_bytes(16))


def generate_pair(session: Session, name: KeyName, spec: KeySpec) -> None:
    """Make a key pair in the token under ``name``: sign only, sensitive, never extractable."""
    options: dict[str, Any] = {
        "id": name.id,
        "label": name.label,
        "store": True,
        "capabilities": _SIGN_ONLY,
        "private_template": _PRIVATE_TEMPLATE,
    }
    if spec in _PARAMETERS:
        curve = {Attribute.EC_PARAMS: _PARAMETERS[spec]}
        session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(**options)
    elif spec is KeySpec.ED25519:
        curve = {Attribute.EC_PARAMS: _ED25519_PARAMETERS[0]}
        parameters = session.create_domain_parameters(KeyType.EC_EDWARDS, curve, local=True)
        parameters.generate_keypair(mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, **options)
    else:
        session.generate_keypair(KeyType.RSA, int(spec.value.removeprefix("rsa-")), **options)
