"""The document security store (ETSI EN 319 142-1, 5.4.2; ISO 32000-2, 12.8.4.3): certificates and status answers in the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject, pdf_name

from pki.material import Material, is_issued_by
from signer.pdf_update import Update, entry

_STORES: Final = {"/Certs": "/Cert", "/CRLs": "/CRL", "/OCSPs": "/OCSP"}
"""The arrays of the store, each with the name of its like for one signature."""
_MOST: Final = 500
"""Of each kind that are looked at: more are a hostile file's."""


def add_material(update: Update, material: Mapping[bytes, Material]) -> bool:
    """Add ``material`` to the store of the document, by the /Contents of the signature or timestamp that each is for.

    What the store has already is not put in again. Returns whether anything was added.
    """
    store = _Store(update)
    for contents, one in material.items():
        store.add(contents, one)
    return store.changed


class _Store:
    """The /DSS of the document, made when there is none, on its way to the next revision."""

    def __init__(self, update: Update) -> None:
        self._update = update
        found = entry(update.root, "/DSS")
        self._dictionary = found if isinstance(found, DictionaryObject) else None
        self._known: dict[str, dict[bytes, generic.PdfObject]] = {name: self._read(name) for name in _STORES}
        self.changed = False

    def add(self, contents: bytes, material: Material) -> None:
        certificates = [certificate.public_bytes(Encoding.DER) for certificate in material.certificates]
        streams = {"/Certs": certificates, "/CRLs": material.crls, "/OCSPs": material.ocsps}
        references = {name: [self._stream(name, der) for der in ders] for name, ders in streams.items()}
        if any(references.values()):
            self._note(contents, references)

    def _read(self, name: str) -> dict[bytes, generic.PdfObject]:
        """SHA-256 of what is in a store already, with its reference."""
        array = entry(self._dictionary, name)
        found: dict[bytes, generic.PdfObject] = {}
        for position in range(len(array)) if isinstance(array, ArrayObject) else ():
            stream = array[position]
            reference = array.raw_get(position)
            if isinstance(stream, generic.StreamObject) and isinstance(reference, IndirectObject):
                found[_digest(stream.data)] = reference
        return found

    def _stream(self, name: str, der: bytes) -> generic.PdfObject:
        known = self._known[name]
        key = _digest(der)
        if key not in known:
            known[key] = self._update.add_object(generic.StreamObject(stream_data=der))
            array = self._array(self._store(), name)
            array.append(known[key])
            self._update.update_container(array)
            self.changed = True
        return known[key]

    def _store(self) -> DictionaryObject:
        if self._dictionary is None:
            self._dictionary = DictionaryObject({pdf_name("/Type"): pdf_name("/DSS")})
            root = self._update.root
            root["/DSS"] = self._update.add_object(self._dictionary)
            _declare_extension(self._update)
            self._update.update_root()  # type: ignore[no-untyped-call]  # pyHanko states no types for it
        return self._dictionary

    def _array(self, dictionary: DictionaryObject, name: str) -> ArrayObject:
        found = entry(dictionary, name)
        if isinstance(found, ArrayObject):
            return found
        array = dictionary[name] = ArrayObject()
        self._update.update_container(dictionary)
        return array

    def _note(self, contents: bytes, references: Mapping[str, Sequence[generic.PdfObject]]) -> None:
        """What of the store goes with this signature, under the SHA-1 of its /Contents."""
        store = self._store()
        notes = entry(store, "/VRI")
        if not isinstance(notes, DictionaryObject):
            notes = store["/VRI"] = DictionaryObject()
            self._update.update_container(store)
        key = vri_key(contents)
        if key in notes:
            return  # readers take a note that changes for tampering; the store's own arrays say it all
        note = DictionaryObject({pdf_name("/Type"): pdf_name("/VRI")})
        for name, added in references.items():
            if added:
                note[_STORES[name]] = ArrayObject(dict.fromkeys(added))
        notes[key] = self._update.add_object(note)
        self._update.update_container(notes)
        self.changed = True


def vri_key(contents: bytes) -> str:
    """The name in /VRI: SHA-1 of the octets in /Contents, padding and all, in upper-case hex (the standard's choice of hash)."""
    return "/" + hashlib.sha1(contents, usedforsecurity=False).hexdigest().upper()


@dataclass(frozen=True, slots=True)
class Held:
    """What of a document's store can be read."""

    certificates: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]
    answers: tuple[ocsp.OCSPSingleResponse, ...]

    def covers(self, leaf: x509.Certificate, further: Sequence[x509.Certificate]) -> bool:
        """Whether it has a status of ``leaf`` and of every issuer up to one that issued itself, found in it or in ``further``.

        False of a leaf that issued itself: nobody vouches for that one.
        """
        certificate, seen = leaf, set[x509.Certificate]()
        while certificate.issuer != certificate.subject and certificate not in seen:
            seen.add(certificate)
            issuer = next((one for one in (*self.certificates, *further) if is_issued_by(certificate, one)), None)
            if issuer is None or not self._has_status(certificate, issuer):
                return False
            certificate = issuer
        return certificate is not leaf and certificate not in seen

    def _has_status(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        listed = any(crl.issuer == issuer.subject for crl in self.lists)
        return listed or any(answer.serial_number == certificate.serial_number for answer in self.answers)


def read_held(update: Update) -> Held:
    """The store of the document; what in it cannot be read is passed over."""
    certificates, lists, answers = [], [], []
    for data in _streams(update, "/Certs"):
        with suppress(ValueError):
            certificates.append(x509.load_der_x509_certificate(data))
    for data in _streams(update, "/CRLs"):
        with suppress(ValueError):
            lists.append(x509.load_der_x509_crl(data))
    for data in _streams(update, "/OCSPs"):
        with suppress(ValueError):
            answers += list(ocsp.load_der_ocsp_response(data).responses)
    return Held(tuple(certificates), tuple(lists), tuple(answers))


def _streams(update: Update, name: str) -> list[bytes]:
    array = entry(entry(update.root, "/DSS"), name)
    items = [item.get_object() for item in islice(array, _MOST)] if isinstance(array, ArrayObject) else []
    return [item.data for item in items if isinstance(item, generic.StreamObject)]


def _declare_extension(update: Update) -> None:
    """Say that PAdES structures are used (ETSI EN 319 142-1, 5.6), beside other makers' extensions."""
    root = update.root
    extensions = entry(root, "/Extensions")
    if not isinstance(extensions, DictionaryObject):
        extensions = root["/Extensions"] = DictionaryObject()
    if "/ESIC" not in extensions:
        level = {pdf_name("/BaseVersion"): pdf_name("/1.7"), pdf_name("/ExtensionLevel"): generic.NumberObject(1)}
        extensions["/ESIC"] = DictionaryObject(level)
        if extensions.container_ref is not None:
            update.update_container(extensions)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
