"""Uploads of every kind, most of them damaged: what `bench/fuzz_http.py` sends. A seed repeats them."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from urllib.parse import quote

from bench.fuzz_pdf import Mutator
from bench.load import SAMPLE_PDF
from tests.service import ROOT

T = TypeVar("T")
Part = tuple[str, str | None, bytes]
"""Name, file name and content of a part of a form."""
_AGENCY: Final = "000.00.00.X00"
_PNG: Final = (ROOT / "examples" / "chu-ky.png").read_bytes()
_XML: Final = (ROOT / "examples" / "cong-van.xml").read_bytes()
_TEXTS: Final = (
    "",
    "x",
    "ok",
    "Ý kiến: đồng ý",
    "Nguyễn Thị Ký",
    "Nguye\u0302\u0303n",
    "a\nb",
    "\x00",
    "\u202e\u2066",
    "🖋" * 60,
    "x" * 5000,
    "\ud800",
    "()\\<>",
)
_NUMBERS: Final = ("1", "2", "0", "-1", "99", "4294967296", "1e3", "NaN", "", "９")
_RECTANGLES: Final = ("10,10,200,80", "0,0,595,842", "0,0,0,0", "1,1,1", "nan,0,9,9", "-9999,-9999,99999,99999", "590,840,594,841")
_VALUES: Final[dict[str, Sequence[str]]] = {
    "level": ("B-B", "B-B", "B-T", "B-LT", "B-LTA", "B-X", ""),
    "profile": ("plain", "person", "initial", "agency-issue", "appendix", "copy", "incoming", "comment", "portal", "none"),
    "field": ("LanhDao", "Signature1", "a.b", *_TEXTS),
    "page": _NUMBERS,
    "rectangle": _RECTANGLES,
    "number_rectangle": _RECTANGLES,
    "text": _TEXTS,
    "reason": _TEXTS,
    "comment": _TEXTS,
    "printed_name": ("NGUYỄN VĂN THỬ", *_TEXTS),
    "number": ("123/UBND-VP", *_TEXTS),
    "issued_on": ("2026-04-15", "2026-02-30", "0001-01-01", "9999-12-31", "x"),
    "copy_kind": ("sao-y", "sao-luc", "trich-sao", "x"),
    "certify": ("nothing", "forms", "annotations", "x"),
    "lock": ("*", "LanhDao", "a,b,,", *_TEXTS),
    "qr": ("true", "false", "2"),
    "password": ("a", "", "b", "x" * 300, "\x00", "đ"),
    "secrecy": ("MẬT", "thường", *_TEXTS),
    "signer": ("demo-seal", "demo-officer", "nobody", *_TEXTS),
    "wait": ("0", "1", "1", "2", "2", "2", "21"),
    "colour": ("red",),
}
_JSON: Final = (
    "null",
    "true",
    "-0",
    "1e999",
    "[]",
    "{}",
    '"x"',
    "[" * 5000,
    '{"a":' * 500,
    "99999999999999999999",
    '"\\ud800"',
    "NaN",
)
_OF_FORMS: Final = (
    b"--",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b'name="document"',
    b'filename="',
    b"Content-Type: x\r\n",
    b"x" * 20_000,
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it goes over the wire, but for its key."""

    kind: str
    target: str
    key: str | None
    """The table of the credentials with its caller's API key."""
    headers: tuple[tuple[str, str], ...]
    body: bytes
    honest: bool = True
    """Whether the body is as long as its headers say."""
    document: bytes | None = None
    """What is to be signed, where the answer is to begin with it."""
    method: str = "POST"

    def encode(self, api_key: str | None) -> bytes:
        """All of it."""
        headers = [*self.headers, ("Host", "localhost"), ("Connection", "close")]
        headers += [("Authorization", f"Bearer {api_key}")] if api_key else []
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


class Requests:
    """Makes requests without end."""

    def __init__(self, seed: int, signed: Sequence[bytes], *, looks: bool = False) -> None:
        """``signed``: PDFs with signatures that the service made. ``looks``: also looks and pictures, which it keeps."""
        self._random = random.Random(seed)  # noqa: S311 - it chooses mutations; a seed repeats them
        self._plain = Mutator(seed)
        self._signed = Mutator(seed, whole=signed)
        self._sound = (SAMPLE_PDF, *signed)
        self._kinds: tuple[Callable[[], Request], ...] = (
            *(self._sign, self._sign, self._sign_form, self._sign_form, self._sign_form, self._extend, self._verify, self._verify),
            *(self._verify_form, self._hygiene, self._batch, self._batch, self._digests, self._digest, self._material, self._xml),
        )
        if looks:
            self._kinds += (self._look, self._kept_picture)

    def __iter__(self) -> Iterator[Request]:
        while True:
            request = self._random.choice(self._kinds)()
            yield self._lie(request) if self._random.random() < 0.06 else request

    def _sign(self) -> Request:
        document = self._document(self._plain)
        request = self._bare("sign", f"/v1/signatures/pdf{self._query()}", "client", document, "application/pdf")
        return replace(request, document=document)

    def _sign_form(self) -> Request:
        parts: list[Part] = [("document", "d.pdf", self._document(self._plain))]
        if self._random.random() < 0.7:
            parts.append(("options", None, self._json_options()))
        if self._random.random() < 0.5:
            parts.append(("image", "i.png", self._picture()))
        return self._form("sign-form", "/v1/signatures/pdf", self._random.choice(("client", "officer_client")), parts)

    def _extend(self) -> Request:
        query = self._random.choice(("", "?level=B-LT", "?level=B-LTA", "?level=B-B", "?password=a"))
        return self._bare("extend", f"/v1/signatures/pdf/extend{query}", "client", self._document(self._signed), "application/pdf")

    def _verify(self) -> Request:
        return self._bare("verify", "/v1/verifications", None, self._document(self._signed), "application/octet-stream")

    def _verify_form(self) -> Request:
        parts: list[Part] = [
            ("document", "d", self._choose(self._document(self._signed), self._damage(_XML), self._random.randbytes(300)))
        ]
        chosen = [name for name in ("data", "query") if self._random.random() < 0.4]
        parts += [(name, name, self._random.randbytes(self._choose(0, 40, 4000))) for name in chosen]
        return self._form("verify-form", "/v1/verifications", None, parts)

    def _hygiene(self) -> Request:
        document = self._document(self._choose(self._plain, self._signed))
        return self._bare("hygiene", "/v1/documents/hygiene", "client", document, "application/pdf")

    def _batch(self) -> Request:
        parts: list[Part] = []
        for number in range(self._random.choice((0, 1, 2, 4))):
            if self._random.random() < 0.4:
                parts.append(("options", None, self._json_options()))
            name = self._choose(*[f"{number}.pdf"] * 9, "../../x", "a\\b", "", "x" * 300, "tệp.pdf")
            parts.append(("file", name, self._document(self._plain)))
        return self._form("batch", f"/v1/signatures/batches{self._query('wait')}", "client", parts)

    def _digests(self) -> Request:
        items = [{"name": self._choose(None, None, *_TEXTS), "digest": self._digest_text()} for _ in range(self._choose(0, 1, 3))]
        return self._json(
            "batch-json", "/v1/signatures/batches", {"algorithm": self._choose("sha256", "sha256", "md5"), "items": items}
        )

    def _digest(self) -> Request:
        body = {
            "digest": self._digest_text(),
            "level": self._choose(*_VALUES["level"]),
            "algorithm": self._choose("sha256", "sha256", "sha512"),
        }
        return self._json("digest", "/v1/signatures/digest", body)

    def _material(self) -> Request:
        signed = re.search(rb"/Contents *<([0-9a-fA-F]+)>", self._choose(*self._sound))
        cms = bytes.fromhex(signed[1].decode()).rstrip(b"\0") if signed else b"0\x80"
        return self._json("material", "/v1/signatures/validation-material", {"cms": base64.b64encode(self._damage(cms)).decode()})

    def _xml(self) -> Request:
        return self._bare("xml", "/v1/signatures/xml?level=B-B", "client", self._damage(_XML), "application/xml")

    def _look(self) -> Request:
        name = self._choose("person", "agency-issue", "initial")
        text = self._damage((ROOT / "signer" / "looks" / f"{name}.toml").read_bytes())
        return replace(self._bare("look", f"/v1/agencies/{_AGENCY}/looks/{name}", "admin", text, "application/toml"), method="PUT")

    def _kept_picture(self) -> Request:
        what = self._choose("subscribers/demo-officer/signature-image", f"agencies/{_AGENCY}/seal", f"agencies/{_AGENCY}/logo")
        target = f"/v1/{what}?width={self._choose('36', '36', '0', '1e9', 'NaN', '0.001')}"
        return replace(self._bare("picture", target, "admin", self._picture(), "image/png"), method="PUT")

    def _document(self, mutator: Mutator) -> bytes:
        return self._choose(*self._sound) if self._random.random() < 0.15 else mutator.next()

    def _query(self, *more: str) -> str:
        pairs = [f"{name}={quote(value, errors='surrogatepass')}" for name, value in self._options(*more)]
        return "?" + "&".join(pairs) if pairs else ""

    def _options(self, *more: str) -> Iterator[tuple[str, str]]:
        """Often none or a few, of which most mean something."""
        names = [name for name in _VALUES if name not in ("wait", "colour")]
        wanted = [
            *more,
            *self._random.sample(names, self._choose(0, 0, 0, 1, 1, 2)),
            *(["colour"] if self._random.random() < 0.02 else []),
        ]
        if self._random.random() < 0.7:
            yield "level", self._choose("B-B", "B-B", "B-T", "B-LTA")
        for name in wanted:
            if name != "level":
                yield name, self._choose(*_VALUES[name])

    def _json_options(self) -> bytes:
        text = ",".join(
            f"{json.dumps(name)}:{self._choose(*_JSON) if self._random.random() < 0.1 else json.dumps(value)}"
            for name, value in self._options()
        )
        data = f"{{{text}}}".encode()
        return self._damage(data) if self._random.random() < 0.1 else data

    def _digest_text(self) -> str:
        right = hashlib.sha256(self._random.randbytes(4)).hexdigest()
        return self._choose(right, right, right[:-1], "", "g" * 64, base64.b64encode(bytes(32)).decode())

    def _picture(self) -> bytes:
        way = self._random.randrange(5)
        if way == 0:
            return self._damage(_PNG)
        if way == 1:
            return self._choose(b"", b"\xff\xd8\xff\xe0", b"<svg/>", b"GIF89a", SAMPLE_PDF)
        if way == 2:
            sizes = (0, 1, 300, 20_000, 2**31)
            return make_png(self._choose(*sizes), self._choose(*sizes), self._choose(1, 8, 16, 7), self._choose(0, 2, 3, 4, 6, 9))
        return _PNG

    def _damage(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._choose(1, 1, 3)):
            at = self._random.randrange(len(changed) + 1)
            end = at + self._choose(0, 1, 30)
            changed[at:end] = self._choose(b"", self._random.randbytes(1), self._random.randbytes(20), bytes(changed[at:end]) * 3)
        return bytes(changed)

    def _choose(self, *values: T) -> T:
        return self._random.choice(values)

    def _bare(self, kind: str, target: str, key: str | None, body: bytes, media: str) -> Request:
        if self._random.random() < 0.15:
            chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in self._pieces(body)) + b"0\r\n\r\n"
            return Request(kind, target, key, (("Content-Type", media), ("Transfer-Encoding", "chunked")), chunked)
        return Request(kind, target, key, (("Content-Type", media), ("Content-Length", str(len(body)))), body)

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        while body:
            size = self._choose(1, 100, 5000, len(body))
            yield body[:size]
            body = body[size:]

    def _json(self, kind: str, target: str, value: object) -> Request:
        data = json.dumps(value).encode()
        return self._bare(kind, target, "client", self._damage(data) if self._random.random() < 0.3 else data, "application/json")

    def _form(self, kind: str, target: str, key: str | None, parts: list[Part]) -> Request:
        if self._random.random() < 0.2:
            parts = parts + [self._choose(("document", "d", b"x"), ("other", None, b""), ("options", None, b"{}"))] * self._choose(
                1, 20
            )
        boundary = self._choose("b0undary", "b0undary", "x" * 70, "-", "a b")
        body = b"".join(_part(boundary, *part) for part in parts) + f"--{boundary}--\r\n".encode()
        if self._random.random() < 0.25:
            changed = bytearray(body)
            at = self._choose(0, self._random.randrange(len(body)), self._random.randrange(min(len(body), 200)), len(body) - 8)
            changed[at : at + self._choose(0, 1, 10)] = self._choose(*_OF_FORMS)
            body = bytes(changed)
        told = self._choose(
            *[f'boundary="{boundary}"'] * 12, f"boundary={boundary}", "boundary=", "boundary=other", "charset=utf-16"
        )
        return self._bare(kind, target, key, body, f"multipart/form-data; {told}")

    def _lie(self, request: Request) -> Request:
        """The same with a body that is not as long as it says."""
        if any(name == "Transfer-Encoding" for name, _ in request.headers):
            broken = self._choose(
                request.body[: len(request.body) // 2], b"zz\r\nx", b"-1\r\n", b"ffffffffffffffffff\r\nx", b"5\r\nab"
            )
            return replace(request, kind=f"{request.kind}-lying", body=broken, honest=False)
        length = self._choose(len(request.body) + 1, len(request.body) + 100_000, 10**15, -1, "x", "")
        headers = (request.headers[0], ("Content-Length", str(length)))
        return replace(request, kind=f"{request.kind}-lying", headers=headers, honest=False)


def _part(boundary: str, name: str, filename: str | None, data: bytes) -> bytes:
    said = f'; filename="{filename}"' if filename is not None else ""
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{said}\r\n\r\n'.encode() + data + b"\r\n"


def make_png(width: int, height: int, bits: int, colour: int) -> bytes:
    """A PNG that says so of itself, with right check sums and hardly any picture in it."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(200_000))), (b"IEND", b""))
    told = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(told)
