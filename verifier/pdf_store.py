"""The document security store (ISO 32000-2 clause 12.8.4.3): what a PDF carries along to be judged by, nothing of it trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from pyhanko.pdf_utils.reader import PdfFileReader

from core.errors import Malformed
from verifier.pdf_tree import entry, items
from verifier.reading import reading

_MOST: Final = 256
"""Of each kind: a file with many signatures that was extended for decades has some for each."""


@dataclass(frozen=True, slots=True)
class Store:
    """What could be read of it."""

    certificates: tuple[x509.Certificate, ...] = ()
    crls: tuple[bytes, ...] = ()
    ocsps: tuple[bytes, ...] = ()
    """DER of OCSPResponses."""


def read_store(reader: PdfFileReader) -> Store:
    """What /DSS holds; an empty store where there is none or it cannot be read (it is an aid, no evidence)."""
    try:
        with reading("DSS"):
            store = entry(reader.root, "/DSS")
            if store is None:
                return Store()
            certificates = []
            for der in _streams(store, "/Certs"):
                try:
                    certificates.append(x509.load_der_x509_certificate(der))
                except ValueError:
                    continue  # one broken certificate does not spoil the others
            return Store(tuple(certificates), tuple(_streams(store, "/CRLs")), tuple(_streams(store, "/OCSPs")))
    except Malformed:
        return Store()


def _streams(store: Any, key: str) -> list[bytes]:
    return [one.get_object().data for one in list(items(entry(store, key)))[:_MOST]]
