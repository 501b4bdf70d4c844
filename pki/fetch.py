"""What other authorities publish, fetched over HTTP: only from hosts an operator named, bounded in size and time, no redirects.

The URLs stand in certificates that come with a document, so whoever sends one chooses them. Which hosts answer is the operator's
choice alone; and a name that leads to this machine or its link (a name server may say so at any time) is not followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from core.settings import FetchConfig

_log = logging.getLogger("condau.pki")
_CHUNK: Final = 1 << 16
_MOST_URLS: Final = 4


class Fetcher:
    """Follows the URLs in certificates as far as ``[pki.fetch]`` allows. What fails is logged and taken as no answer."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config

    def issuers(self, certificate: x509.Certificate) -> Sequence[x509.Certificate]:
        """The certificates that caIssuers of AIA leads to (RFC 5280, 4.2.2.1)."""
        found: list[x509.Certificate] = []
        for url in _access(certificate, AuthorityInformationAccessOID.CA_ISSUERS):
            data = self._get(url)
            found += [] if data is None else _certificates(data)
        return found

    def status(self, certificate: x509.Certificate, issuer: x509.Certificate) -> Iterator[tuple[bytes | None, bytes | None]]:
        """(CRL, OCSPResponse), one of them in each: what answers, OCSP first, asked for one after the other."""
        request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1()).build()  # noqa: S303 - names the issuer
        asked = request.public_bytes(Encoding.DER)
        for url in _access(certificate, AuthorityInformationAccessOID.OCSP):
            answer = self._exchange(url, asked)
            if answer is not None:
                yield None, answer
        for url in _lists(certificate):
            crl = self._get(url)
            if crl is not None:
                yield crl, None

    def _get(self, url: str) -> bytes | None:
        return self._exchange(url, None)

    def _exchange(self, url: str, request: bytes | None) -> bytes | None:
        """GET, or POST of an OCSPRequest; None where the host is not allowed or does not answer with 200 in time and size."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.netloc.lower() not in self._config.hosts:
            return None
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self._config.seconds)
        deadline = time.monotonic() + self._config.seconds
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": "condau"} | ({"Content-Type": "application/ocsp-request"} if request is not None else {})
        try:
            with _cut_after(connection, self._config.seconds):
                connection.connect()
                _check_address(parts.hostname or "", connection.sock.getpeername()[0])
                connection.request("GET" if request is None else "POST", path, request, headers)
                return self._read(connection.getresponse(), deadline)
        except (OSError, ValueError, http.client.HTTPException) as error:
            _log.warning("fetching failed", extra={"fields": {"url": url[:300], "why": f"{type(error).__name__}: {error}"[:300]}})
            return None
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        if response.status != 200:
            raise ValueError(f"it answers {response.status}")
        found = bytearray()
        while chunk := response.read1(_CHUNK):
            found += chunk
            if len(found) > self._config.size or time.monotonic() > deadline:
                raise ValueError("it is larger or slower than allowed")
        if response.length or time.monotonic() > deadline:
            raise ValueError("it was cut off, or is slower than allowed")
        return bytes(found)


@contextmanager
def _cut_after(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Ends the connection when its time is up, however it spends it: a timeout of the socket counts from each byte anew."""

    def cut() -> None:
        with suppress(OSError):
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check_address(host: str, peer: str) -> None:
    """Raise ValueError where a name leads to this machine or to its link. An address the operator wrote is what it is; private
    ones are taken, for networks of state agencies have them."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return
    address = ipaddress.ip_address(peer.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise ValueError(f"{host} leads to {address}: name the address itself if that is meant")


def _access(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> Iterator[str]:
    try:
        descriptions = list(certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value)
    except (x509.ExtensionNotFound, ValueError):
        return
    places = [one.access_location for one in descriptions if one.access_method == method]
    yield from [place.value for place in places if isinstance(place, x509.UniformResourceIdentifier)][:_MOST_URLS]


def _lists(certificate: x509.Certificate) -> Iterator[str]:
    try:
        points = list(certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value)
    except (x509.ExtensionNotFound, ValueError):
        return
    names = [name for point in points for name in point.full_name or ()]
    yield from [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)][:_MOST_URLS]


def _certificates(data: bytes) -> list[x509.Certificate]:
    """One in DER, some in PEM, or a certs-only CMS message."""
    for parse in (_one, x509.load_pem_x509_certificates, pkcs7.load_der_pkcs7_certificates):
        try:
            return parse(data)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
    return []


def _one(data: bytes) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(data)]
