"""500 MB through the running service: the memory of its workers, and what comes back."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.service import Service
from tests.system.conftest import Instances

SIZE = 500_000_000
RESIDENT = 200 * 1024
"""KiB that a worker may ever have had in memory."""
_CHUNK = 1 << 20


def write_large_pdf(path: Path, size: int) -> None:
    """One page with one picture of ``size`` bytes, which takes no room on the disk."""
    width, height = 10_000, size // 10_000
    picture = b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8/Length %d>>\nstream\n"
    drawn = b"q 500 0 0 500 40 40 cm /I Do Q"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>",
        b"<</Length %d>>\nstream\n%b\nendstream" % (len(drawn), drawn),
    ]
    with path.open("wb") as file:
        file.write(b"%PDF-1.7\n")
        places = []
        for number, body in enumerate(objects, 1):
            places.append(file.tell())
            file.write(b"%d 0 obj\n%b\nendobj\n" % (number, body))
        places.append(file.tell())
        file.write(b"5 0 obj\n" + picture % (width, height, width * height))
        file.seek(width * height, io.SEEK_CUR)
        file.write(b"\nendstream\nendobj\n")
        start = file.tell()
        rows = b"".join(b"%010d 00000 n \n" % place for place in places)
        file.write(b"xref\n0 6\n0000000000 65535 f \n%btrailer\n<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (rows, start))


def digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@contextmanager
def posted(service: Service, path: Path, target: str) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request with the file as its body."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
    headers = {
        "Authorization": f"Bearer {service.api_key('client')}",
        "Content-Type": "application/pdf",
        "Content-Length": str(path.stat().st_size),
    }
    with path.open("rb") as file:
        connection.request("POST", target, file, headers)
        yield connection.getresponse()
    connection.close()


def appended(service: Service, path: Path, target: str) -> tuple[bytes, bytes]:
    """The SHA-256 of as many bytes of the answer as the document has, and what follows them."""
    size = path.stat().st_size
    with posted(service, path, target) as answer:
        assert answer.status == 200, answer.read(2000)
        before = hashlib.sha256()
        left = size
        while left:
            chunk = answer.read(min(left, _CHUNK))
            assert chunk
            before.update(chunk)
            left -= len(chunk)
        return before.digest(), answer.read()


def most_resident(service: Service) -> int:
    """KiB that the largest worker ever had in memory."""
    status = [Path(f"/proc/{pid}/status").read_text() for pid in service.worker_pids()]
    return max(int(found[1]) for text in status if (found := re.search(r"VmHWM:\s+(\d+) kB", text)))


@pytest.mark.slow
def test_500_megabytes_are_signed_verified_and_extended_in_bounded_memory(
    database_kind: str, new_service: Instances, tmp_path: Path
) -> None:
    if database_kind != "sqlite":
        pytest.skip("the database sees nothing of the document")
    service = new_service.make()
    service.start()
    path = tmp_path / "large.pdf"
    write_large_pdf(path, SIZE)
    digest = digest_of(path)
    before, tail = appended(service, path, "/v1/signatures/pdf?level=B-LTA&page=1")
    assert before == digest
    with path.open("ab") as file:
        file.write(tail)
    with posted(service, path, "/v1/verifications") as answer:
        report = json.load(answer)
    assert (report["conclusion"], [one["level"] for one in report["signatures"]]) == ("valid", ["B-LTA"]), report
    assert appended(service, path, "/v1/signatures/pdf/extend")[1]
    # the gate looks at the document and for a leader's signature in it, whoever asks
    with posted(service, path, "/v1/signatures/pdf?profile=agency-issue&number=1/Q%C4%90-UBND") as answer:
        assert (answer.status, b"bears no valid signature of a leader" in answer.read()) == (409, True)
    assert list((service.home / "spool").iterdir()) == []
    resident = most_resident(service)
    said = subprocess.run(["pdfsig", "-nocert", path], capture_output=True, text=True, timeout=120, check=False).stdout
    assert said.count("Signature is Valid") == 1, said  # pdfsig does not look into the document timestamp behind it
    assert resident < RESIDENT, f"{resident} KiB"
    assert service.stop() == 0
