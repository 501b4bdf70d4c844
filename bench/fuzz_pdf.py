"""Mutated PDFs against the signer: ``python -m bench.fuzz_pdf --seconds 300``.

Each input is a PDF with changed bytes, or one taken apart into its objects, in which names, numbers and references are changed
and which is put together again with a right cross-reference table, so that the damage is found where it is and not at the door.
Whatever it is, it is signed (and then begins with the input) or refused by an error that is the caller's, before a key is
used, within the time a document may take. Anything else is kept in the folder --keep and makes the exit code 1. A seed
repeats a run, and several processes share it.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from audit.log import Actor
from bench.load import SAMPLE_PDF
from bootstrap import Services, build
from core.config import load_config
from core.content import Content
from core.errors import CondauError, Unavailable
from core.pdf_reader import SECONDS
from signer.options import PdfOptions
from tests.service import Service
from tests.signer.pdfs import add_empty_field, make_hybrid, make_pdf

SLOWEST = 2.5 * SECONDS
"""Seconds of processor time that one input may take: it is opened twice, and the rest is our own."""
ACTOR = Actor("demo-client", "client", "fuzz")
_OBJECT = re.compile(rb"(?<![0-9])([0-9]+) 0 obj\b(.*?)\bendobj", re.DOTALL)
_TOKEN = re.compile(rb"/[A-Za-z]+|[0-9]+ 0 R|-?[0-9]+(?:\.[0-9]+)?")
_NAMES = b"/Kids /Parent /Count /Type /Annots /AcroForm /Fields /FT /Sig /V /P /T /AP /Rect /MediaBox /CropBox /Rotate".split()
_NAMES += b"/Resources /Metadata /Perms /DocMDP /Reference /TransformParams /DSS /Lock /SV /Contents /Length /Filter".split()
_NAMES += b"/Encrypt /Names".split()
_VALUES = (
    b"0",
    b"-1",
    b"1",
    b"4294967296",
    b"99999999999999999999",
    b"1e9",
    b"null",
    b"true",
    b"()",
    b"<<>>",
    b"[]",
    b"/",
    b"<41>",
)
_BYTES = (
    b"<<",
    b">>",
    b"[",
    b"]",
    b"(",
    b")",
    b"%",
    b"\0",
    b"stream\n",
    b"endstream",
    b"endobj",
    b"%%EOF",
    b"startxref\n0",
    b"xref\n",
    b"R ",
)


class Mutator:
    """Makes inputs out of sound files."""

    def __init__(self, seed: int, whole: Sequence[bytes] = ()) -> None:
        """``whole``: the sound files that are damaged as bytes (default: some of every structure)."""
        self._random = random.Random(seed)  # noqa: S311 - it chooses mutations; a seed repeats them
        plain = [make_pdf(pages=3, xref_stream=False), make_pdf(xref_stream=False, rotate=90)]
        plain.append(add_empty_field(plain[0], "LanhDao"))
        self._bytewise = 0.9 if whole else 0.4
        self._whole = list(whole) or [*plain, make_pdf(pages=5), make_hybrid(), SAMPLE_PDF]
        if not whole:
            self._whole += [_qpdf(SAMPLE_PDF, *way) for way in (("--linearize",), ("--encrypt", "", "a", "256", "--"))]
        self._apart = [_take_apart(one) for one in (*plain, _qpdf(SAMPLE_PDF, "--qdf", "--object-streams=disable"))]

    def next(self) -> bytes:
        """One input."""
        if self._random.random() < self._bytewise:
            data = bytearray(self._random.choice(self._whole))
            for _ in range(self._random.choice((1, 1, 2, 4, 8))):
                self._damage(data)
            return bytes(data)
        objects = dict(self._random.choice(self._apart))
        for _ in range(self._random.choice((1, 1, 2, 3, 6))):
            number = self._random.choice(list(objects))
            objects[number] = self._change(objects[number], list(objects))
        return _put_together(objects)

    def _damage(self, data: bytearray) -> None:
        at = self._random.randrange(len(data) + 1)
        end = min(len(data), at + self._random.choice((1, 2, 10, 1000)))
        way = self._random.randrange(6)
        if way == 0:
            data[at:end] = bytes(self._random.randrange(256) for _ in range(end - at))
        elif way == 1:
            del data[at:end]
        elif way == 2:
            data[at:at] = self._random.choice(_BYTES)
        elif way == 3:
            data[at:at] = bytes(data[at:end]) * self._random.choice((1, 2, 50))
        elif way == 4:
            other = self._random.choice(self._whole)
            start = self._random.randrange(len(other))
            data[at:end] = other[start : start + self._random.choice((10, 100, 2000))]
        else:
            tail = data.rfind(b"startxref") if self._random.random() < 0.5 else at
            found = re.compile(rb"[0-9]+").search(data, max(tail, 0))
            if found is not None:
                data[found.start() : found.end()] = self._random.choice(_VALUES)

    def _change(self, body: bytes, numbers: list[int]) -> bytes:
        tokens = list(_TOKEN.finditer(body))
        if not tokens or self._random.random() < 0.1:
            return self._random.choice(
                (b"null", b"[%b]" % body, b"<<%b>>" % body, body * 3, b"%d 0 R" % self._random.choice(numbers))
            )
        token = self._random.choice(tokens)
        reference = b"%d 0 R" % self._random.choice([*numbers, 0, 9999])
        if token[0].startswith(b"/"):
            new = self._random.choice(_NAMES)
        else:
            new = self._random.choice(
                (reference, reference, *_VALUES, b"[" * 2000, b"<<%b %b>>" % (self._random.choice(_NAMES), reference))
            )
        return body[: token.start()] + new + body[token.end() :]


def _qpdf(document: bytes, *options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.pdf", Path(folder) / "out.pdf"
        source.write_bytes(document)
        subprocess.run(["qpdf", "--static-id", *options, source, target], check=True, timeout=60)
        return target.read_bytes()


def _take_apart(document: bytes) -> dict[int, bytes]:
    """Bodies by number, the catalog's number first."""
    objects = {int(number): body for number, body in _OBJECT.findall(document)}
    root = int(document.rpartition(b"/Root ")[2].split()[0])
    return {root: objects.pop(root), **objects}


def _put_together(objects: dict[int, bytes]) -> bytes:
    out, rows = bytearray(b"%PDF-1.7\n"), []
    for number, body in objects.items():
        rows.append(b"%d 1\n%010d 00000 n \n" % (number, len(out)))
        out += b"%d 0 obj%bendobj\n" % (number, body)
    rows.sort(key=lambda row: int(row.split()[0]))
    start, root = len(out), next(iter(objects))
    out += b"xref\n%btrailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (b"".join(rows), max(objects) + 1, root, start)
    return bytes(out)


def try_to_sign(services: Services, document: bytes, options: PdfOptions) -> str:
    """What became of it; raises for what must not be."""
    content, began = Content.of(document), time.thread_time()
    try:
        signed = services.signer.sign_pdf(content, options, ACTOR)
    except Unavailable:
        raise
    except CondauError as error:
        outcome = type(error).__name__
    else:
        if signed.read(0, content.size) != document:
            raise ValueError("what is signed does not begin with what was handed in")
        outcome = "signed"
    took = time.thread_time() - began
    if took > SLOWEST:
        raise TimeoutError(f"{took:.1f} s of processor time")
    return outcome


def main() -> int:
    """Fuzz until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("var") / "fuzz-pdf", help="folder for inputs that broke something")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="condau-fuzz-") as folder:
        service = Service(Path(folder))
        service.condau("init", "--development")
        services = build(load_config(service.home))
        failures = _fuzz(services, arguments.seed, arguments.seconds, arguments.keep)
        services.close()
    return 1 if failures else 0


def _fuzz(services: Services, seed: int, seconds: float, keep: Path) -> int:
    mutator, outcomes, began, slowest = Mutator(seed), Counter[str](), time.monotonic(), 0.0
    ways: list[Callable[[], PdfOptions]] = [
        lambda: PdfOptions(level="B-B"),
        lambda: PdfOptions(level="B-B", page=1),
        lambda: PdfOptions(level="B-B", field="LanhDao"),
        lambda: PdfOptions(level="B-LTA"),
    ]
    count = 0
    while time.monotonic() - began < seconds:
        document = mutator.next()
        at = time.thread_time()
        try:
            outcomes[try_to_sign(services, document, ways[count % len(ways)]())] += 1
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            outcomes["BROKEN"] += 1
            keep.mkdir(parents=True, exist_ok=True)
            path = keep / f"{hashlib.sha256(document).hexdigest()[:16]}-{count % len(ways)}.pdf"
            path.write_bytes(document)
            print(f"{path}:\n{traceback.format_exc()}", file=sys.stderr)
        slowest = max(slowest, time.thread_time() - at)
        count += 1
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{count} inputs: {dict(outcomes)}; the slowest took {slowest:.2f} s of processor; at most {most} MB resident")
    return outcomes["BROKEN"]


if __name__ == "__main__":
    sys.exit(main())
