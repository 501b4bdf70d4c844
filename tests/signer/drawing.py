"""Drawing signatures without the gates before them, and looking at what came of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from audit.log import SYSTEM
from core.content import Content
from core.db import Database, sqlite_url
from core.signatures import fitting_hash
from core.signatures import sign as sign_with
from migrations.schema import upgrade
from signer import pdf
from signer.compose import compose
from signer.layout import Layout
from signer.marks import Mark
from signer.options import PdfOptions
from signer.page_text import PageText
from signer.pdf_update import open_update
from signer.stamps import Box
from tests.signer.house import FONT, OFFICER, SEAL, House, build_house
from tests.signer.letters import LEADER, initials, scribble, seal
from tests.software_keys import SoftwareKeys

AT = datetime(2025, 4, 15, 9, 28, 33, tzinfo=UTC)
TIME = "15.04.2025 16:28:33 +07:00"
A4 = (595.0, 842.0)


def build_studio(folder: Path) -> House:
    """A house at a fixed time with all its pictures. On SQLite always: the database is not what is looked at."""
    database = Database(sqlite_url(folder / "condau.sqlite3"))
    upgrade(database)
    house = build_house(database, SoftwareKeys(), lambda: AT, seal=True)
    gallery = house.gallery()
    gallery.keep_picture(OFFICER, "signature", scribble(), 45, SYSTEM)
    gallery.keep_picture(OFFICER, "initials", initials(), 12, SYSTEM)
    gallery.keep_picture("H12.34", "seal", seal(), 36, SYSTEM)
    return house


def draw(house: House, document: bytes, **options: Any) -> bytes:
    """The document signed (B-B, gates aside) as the profile says."""
    asked = PdfOptions(level="B-B", **options)
    identity = house.identity(asked.signer or OFFICER)
    act = house.gallery().act(asked, identity, AT, None)
    prepared = pdf.prepare(Content.of(document), asked, identity=identity, at=AT, font=FONT, act=act)
    key = house.keys.key(identity.key_label)
    hashed = fitting_hash(identity.certificate.public_key())
    signed = pdf.finish(prepared, pdf.sign(prepared.digest, identity, lambda data: sign_with(key, data, hashed)), None)
    return signed.read(0, signed.size)


def marks(house: House, document: bytes, **options: Any) -> list[Mark]:
    """What would be drawn where."""
    asked = PdfOptions(level="B-B", **options)
    act = house.gallery().act(asked, house.identity(asked.signer or OFFICER), AT, None)
    assert act is not None
    return compose(open_update(Content.of(document), asked.password), act)


def person(house: House, document: bytes, **options: Any) -> bytes:
    return draw(house, document, profile="person", **{"printed_name": LEADER, **options})


def issue(house: House, document: bytes, **options: Any) -> bytes:
    given = {"number": "12/UBND-VP", "issued_on": "2025-04-05", **options}
    return draw(house, document, profile="agency-issue", signer=SEAL, **given)


def render(folder: Path, document: bytes, *, page: int = 1, dpi: int = 100) -> Image.Image:
    (folder / "seen.pdf").write_bytes(document)
    command = ["pdftoppm", "-r", str(dpi), "-png", "-f", str(page), "-singlefile", "-cropbox"]
    subprocess.run([*command, folder / "seen.pdf", folder / "seen"], check=True, capture_output=True, timeout=60)
    return Image.open(folder / "seen.png").convert("RGB")


def where(image: Image.Image, colour: str, dpi: int = 100) -> Box:
    """The box, in millimetres from the page's lower left corner, of all that is red or blue."""
    r, g, b = image.split()
    strong, weak = (r, b) if colour == "red" else (b, r)
    mask = ImageChops.multiply(strong.point(lambda v: 255 * (v > 120)), weak.point(lambda v: 255 * (v < 110)))
    mask = ImageChops.multiply(mask, g.point(lambda v: 255 * (v < 110)))
    box = mask.getbbox()
    assert box is not None
    scale = 25.4 / dpi
    return box[0] * scale, (image.height - box[3]) * scale, box[2] * scale, (image.height - box[1]) * scale


def texts_of(document: bytes) -> Iterator[PageText]:
    """What is printed on its pages, the last first."""
    return Layout(open_update(Content.of(document), None), None).texts_from_the_end()


def layout_text(folder: Path, document: bytes) -> str:
    """What poppler reads, laid out as it stands."""
    (folder / "read.pdf").write_bytes(document)
    return subprocess.run(["pdftotext", "-layout", folder / "read.pdf", "-"], capture_output=True, check=True).stdout.decode()


def bbox(folder: Path, document: bytes) -> str:
    """Every word with its box, as poppler has them."""
    (folder / "box.pdf").write_bytes(document)
    return subprocess.run(["pdftotext", "-bbox", folder / "box.pdf", "-"], capture_output=True, check=True).stdout.decode()


def text_in(folder: Path, document: bytes, box: tuple[float, float, float, float]) -> str:
    """What is read inside a box of page 1."""
    (folder / "part.pdf").write_bytes(document)
    x, y, width, height = (str(round(value)) for value in (box[0], A4[1] - box[3], box[2] - box[0], box[3] - box[1]))
    command = ["pdftotext", "-x", x, "-y", y, "-W", width, "-H", height, str(folder / "part.pdf"), "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def cut(image: Image.Image, box: Box, dpi: int) -> Image.Image:
    """A part of a page: left, top, right, bottom in millimetres from its top left corner."""
    left, top, right, bottom = (round(value * dpi / 25.4) for value in box)
    return image.crop((left, top, right, bottom))
