"""Whose look and whose pictures a signature is drawn with: kept in the database, every version of them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa
from cryptography.x509.oid import NameOID
from PIL import Image
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound, Rejected, Violation
from pki.certificates import Identity
from registry.agencies import version_at
from registry.models import Agency, Subscriber
from registry.registry import agency_with_code, subscriber_named
from signer.blanks import two_digits
from signer.compose import Act, KeptPicture
from signer.look_models import AgencyLook, SignaturePicture
from signer.looks import LOOK_NAMES, Look, PictureElement, Source, built_in, parse_look
from signer.options import PdfOptions
from signer.rasters import InkColour, check_ink, parse_image
from signer.stamps import VIETNAM, format_time
from signer.verification_pages import draft_page, format_code

Kept = TypeVar("Kept", AgencyLook, SignaturePicture)

WIDTHS: Final[Mapping[Source, tuple[float, float]]] = {
    "signature": (15, 100),
    "initials": (4, 40),
    "seal": (20, 60),
    "logo": (5, 60),
}
"""From and to, in millimetres: what such a thing can be in reality."""
_INKS: Final[Mapping[Source, InkColour]] = {"signature": "blue", "initials": "blue", "seal": "red", "logo": "any"}
_DPI: Final = 100
"""The fewest pixels for each inch of the real thing."""
_PIXELS: Final = 4_000_000
"""The most of a kept picture: it goes into every signature."""
_ROUND: Final = (0.75, 1.34)
"""Width to height of a seal, from and to."""


class Gallery:
    """Keeps looks and pictures, and gathers what one signature is drawn with."""

    def __init__(self, *, database: Database, now: Now, font: Path, public_url: str) -> None:
        """``public_url``: where documents are verified, for QR codes."""
        self._database = database
        self._now = now
        self._font = font
        self.verification_page = f"{public_url}/verify"
        """Where QR codes lead; each adds its own code."""

    def act(self, options: PdfOptions, identity: Identity, at: datetime, image: bytes | None) -> Act | None:
        """What the profile asked for draws with this identity at ``at``; None for ``plain`` without a QR code.

        ``image``: the request's own picture (PNG), for the look's first that takes one. Raises Rejected("image", …).
        """
        if options.profile == "plain":
            return None
        with self._database.read() as db:
            subscriber = None if identity.subscriber is None else subscriber_named(db, identity.subscriber)
            agency = None if subscriber is None else subscriber.agency
            look = parse_look(_content(db, agency, options.profile))
            pictures = _pictures(db, agency, subscriber, look)
            values = {**_values(options, look, at), **_names(identity, subscriber, at)}
            qr = parse_look(_content(db, agency, "qr")) if options.qr else None
        page = draft_page(options) if options.qr else None
        if page is not None:
            values |= {"code": format_code(page.code), "verification_page": self.verification_page.partition("://")[2]}
        if image is not None:
            part = _taking(look, options.profile)
            pictures[part.source] = _brought(image, part, pictures.get(part.source))
        url = "" if page is None else f"{self.verification_page}/{page.code}"
        return Act(look, options, values, pictures, self._font, qr, page, url)

    def keep_look(self, code: str, name: str, content: bytes, actor: Actor) -> AgencyLook:
        """Make ``content`` (TOML) the agency's look ``name`` from now on. Raises NotFound, Rejected with every violation."""
        _check_name(name)
        look = parse_look(content)
        _check_same_marks(look, parse_look(built_in(name)))
        digest = hashlib.sha256(content).hexdigest()
        with self._database.write() as db:
            agency = agency_with_code(db, code)
            last = _newest(db, AgencyLook, agency_id=agency.id, name=name)
            version = 1 if last is None else last.version + 1
            row = AgencyLook(agency_id=agency.id, name=name, version=version, at=self._now(), content=content, sha256=digest)
            _add(db, row)
            append(db, at=row.at, actor=actor, action="look.keep", subject=agency.code, look=name, version=version, sha256=digest)
        return row

    def look(self, code: str, name: str) -> bytes:
        """The TOML of the look an agency has: its own, or the built-in one. Raises NotFound."""
        _check_name(name)
        with self._database.read() as db:
            return _content(db, agency_with_code(db, code), name)

    def looks(self, code: str) -> list[AgencyLook]:
        """The newest version of each look that is the agency's own, by name."""
        with self._database.read() as db:
            query = sa.select(AgencyLook).where(AgencyLook.agency_id == agency_with_code(db, code).id).order_by(AgencyLook.version)
            newest = {row.name: row for row in db.scalars(query)}
        return [newest[name] for name in sorted(newest)]

    def keep_picture(self, owner: str, source: Source, png: bytes, width: float, actor: Actor) -> SignaturePicture:
        """Make ``png`` the picture ``source`` of ``owner`` (an agency's code for a seal or logo, else a subscriber's handle).

        ``width`` in millimetres, as in reality. Raises NotFound, Rejected naming ``image`` or ``width``.
        """
        check_picture(png, source, width)
        digest = hashlib.sha256(png).hexdigest()
        with self._database.write() as db:
            of = _owner(db, owner, source)
            last = _newest_picture(db, source, of)
            version = 1 if last is None else last.version + 1
            row = SignaturePicture(source=source, version=version, at=self._now(), png=png, sha256=digest, width=width, **of)
            _add(db, row)
            detail = {"source": source, "version": version, "sha256": digest, "width": str(width)}
            append(db, at=row.at, actor=actor, action="picture.keep", subject=owner, **detail)
        return row

    def picture(self, owner: str, source: Source) -> SignaturePicture:
        """The newest version of a picture. Raises NotFound."""
        with self._database.read() as db:
            row = _newest_picture(db, source, _owner(db, owner, source))
        if row is None:
            raise NotFound("image", f"{owner} has no {source} kept here")
        return row


def check_picture(png: bytes, source: Source, width: float) -> None:
    """Whether a picture can be what it is handed in as. Raises Rejected with every violation of ``image`` and ``width``."""
    violations = []
    low, high = WIDTHS[source]
    if not low <= width <= high:
        violations.append(Violation("width", f"must be how wide the real {source} is, from {low} to {high} millimetres"))
    try:
        image = parse_image(png)
        check_ink(image, _INKS[source])
        _check_shape(image, source)
    except Rejected as error:
        violations += error.violations
    else:
        if not violations and image.width < _DPI * width / 25.4:
            needed = int(_DPI * width / 25.4) + 1
            violations.append(Violation("image", f"the picture is {image.width} pixels wide: {width:g} mm need {needed} at least"))
    if violations:
        raise Rejected.all(violations)


def _check_shape(image: Image.Image, source: Source) -> None:
    if image.width * image.height > _PIXELS:
        raise Rejected("image", f"the picture has {image.width} x {image.height} pixels: {_PIXELS} are plenty, make it smaller")
    if source == "seal" and not _ROUND[0] <= image.width / image.height <= _ROUND[1]:
        raise Rejected("image", f"the picture has {image.width} x {image.height} pixels: cut a seal's picture to the seal's edge")


def _check_name(name: str) -> None:
    if name not in LOOK_NAMES:
        raise NotFound("name", f"there is no look {name[:40]!r}: there are {', '.join(LOOK_NAMES)}")


def _check_same_marks(look: Look, built_in_look: Look) -> None:
    """Fields are told by their names (a seal looks for the leader's), so an agency may move and redraw marks, not rename them."""
    known = {mark.name for mark in built_in_look.mark}
    if {mark.name for mark in look.mark} - known or look.mark[0].name != built_in_look.mark[0].name:
        names = ", ".join(mark.name for mark in built_in_look.mark)
        raise Rejected("mark", f"the marks of this look are {names}: begin with the first of them, and add no others")


def _content(db: Session, agency: Agency | None, name: str) -> bytes:
    own = None if agency is None else _newest(db, AgencyLook, agency_id=agency.id, name=name)
    return built_in(name) if own is None else own.content


def _pictures(db: Session, agency: Agency | None, subscriber: Subscriber | None, look: Look) -> dict[Source, KeptPicture]:
    found: dict[Source, KeptPicture] = {}
    for source in look.sources:
        owner = subscriber if source in _PERSONAL else agency
        if owner is not None:
            row = _newest_picture(db, source, _key(owner))
            if row is not None:
                found[source] = KeptPicture(_decoded(row.png), row.width)
    return found


def _newest_picture(db: Session, source: Source, of: Mapping[str, int]) -> SignaturePicture | None:
    return _newest(db, SignaturePicture, source=source, **of)


def _newest(db: Session, table: type[Kept], **where: object) -> Kept | None:
    """The newest version among the rows with these values."""
    return db.scalar(sa.select(table).filter_by(**where).order_by(table.version.desc()).limit(1))


def _owner(db: Session, owner: str, source: Source) -> dict[str, int]:
    return _key(subscriber_named(db, owner) if source in _PERSONAL else agency_with_code(db, owner))


def _key(owner: Agency | Subscriber) -> dict[str, int]:
    return {"agency_id" if isinstance(owner, Agency) else "subscriber_id": owner.id}


def _add(db: Session, row: AgencyLook | SignaturePicture) -> None:
    db.add(row)
    try:
        db.flush()
    except IntegrityError as error:
        raise Conflict("somebody else kept another version at the same moment: look at it, then send yours again") from error


@functools.lru_cache(maxsize=16)
def _decoded(png: bytes) -> Image.Image:
    """A kept picture, checked when it was handed in."""
    return parse_image(png)


def _taking(look: Look, profile: str) -> PictureElement:
    """The part of the look that takes a request's picture."""
    for mark in look.mark:
        for part in mark.element:
            if isinstance(part, PictureElement) and part.by_request:
                return part
    raise Rejected("image", f"the look of the profile {profile} takes no picture: leave it out")


def _brought(png: bytes, part: PictureElement, kept: KeptPicture | None) -> KeptPicture:
    """A request's picture; it is as wide as the one kept in its place, if any."""
    image = parse_image(png)
    check_ink(image, part.colour)
    _check_shape(image, part.source)
    return KeptPicture(image, None if kept is None else kept.width)


def _values(options: PdfOptions, look: Look, at: datetime) -> dict[str, str]:
    """What the lines of a look may name of the act itself."""
    day = options.issued_on or at.astimezone(VIETNAM).date()
    midnight = datetime(day.year, day.month, day.day, tzinfo=VIETNAM)
    return {
        "number": options.number or "",
        "date": format_time(midnight, look.date),
        "day": two_digits(day.day),
        "month": two_digits(day.month, below=3),
        "year": str(day.year),
        "time": format_time(at, look.time),
        "copy": "" if options.copy_kind is None else look.copy_kinds.get(options.copy_kind, ""),
        "comment": options.comment or "",
    }


def _names(identity: Identity, subscriber: Subscriber | None, at: datetime) -> dict[str, str]:
    """What they may name of the signer: by the certificate, and by the registry as it is at ``at``."""
    subject = identity.certificate.subject
    names = {oid: [str(item.value) for item in subject.get_attributes_for_oid(oid)] for oid in (_CN, _ORGANIZATION, _UNIT)}
    organization = ", ".join([*reversed(names[_UNIT]), *names[_ORGANIZATION]])
    agency = organization if subscriber is None else version_at(subscriber.agency, at).name
    return {
        "signer": (names[_CN] or [""])[0],
        "organization": organization,
        "agency": agency,
        "agency_capitals": agency.upper(),
        "email": "" if subscriber is None else subscriber.email or "",
    }


_PERSONAL: Final = {"signature", "initials"}
_CN, _ORGANIZATION, _UNIT = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME
