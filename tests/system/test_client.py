"""The client library against a running service: what it makes, what it sends, and what it does when the service is away."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

from condau_client import Client, Conflict, DocumentError, Options, Rejected, Signer, Unauthenticated, Unavailable, finish, prepare
from tests.interop.dss import Away, Dss
from tests.service import ROOT, Service
from tests.signer.pdfs import add_empty_field, judge, make_pdf, qpdf, take_apart
from tests.system.conftest import run
from tests.system.wire import RecordingProxy

pytestmark = pytest.mark.one_database  # the client's side


@pytest.fixture(scope="module")
def proxy(service: Service) -> Iterator[RecordingProxy]:
    proxy = RecordingProxy(service.port)
    yield proxy
    proxy.close()


@pytest.fixture
def client(service: Service, proxy: RecordingProxy) -> Client:
    proxy.sent.clear()
    return Client(f"http://127.0.0.1:{proxy.port}", service.api_key("client"), patience=10)


def verdict(service: Service, document: bytes) -> tuple[str, str]:
    """What our verifier says: the conclusion, and the level of the first signature."""
    report = json.loads(service.request("POST", "/v1/verifications", document, kind="application/pdf").body)
    return report["conclusion"], report["signatures"][0]["level"]


def make_secret_pdf(size: int) -> bytes:
    """A PDF with ``size`` random bytes in it, which nothing can make smaller."""
    writer = IncrementalPdfFileWriter(io.BytesIO(make_pdf()))
    writer.root["/Secret"] = writer.add_object(generic.StreamObject(stream_data=os.urandom(size)))
    writer.update_root()
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_nothing_but_a_digest_goes_over_the_wire(service: Service, client: Client, proxy: RecordingProxy, tmp_path: Path) -> None:
    document = make_secret_pdf(1_000_000)
    signed = client.sign_pdf(document, level="B-T")
    assert signed.startswith(document)
    assert judge(tmp_path, signed) == [True]
    assert verdict(service, signed) == ("valid", "B-T")
    requests = [bytes(sent).partition(b"\r\n\r\n") for sent in proxy.sent]
    assert [head.split()[1] for head, _, _ in requests] == [b"/v1/signers", b"/v1/signatures/digest"]
    assert requests[0][2] == b""
    asked = json.loads(requests[1][2])
    assert set(asked) == {"digest", "algorithm", "signer", "level"}
    assert sum(map(len, proxy.sent)) < 1500  # so there is room for no more of a megabyte of noise than its digest


@pytest.fixture(scope="module")
def archived(service: Service) -> tuple[bytes, bytes]:
    """A PDF, and what the client makes of it by default."""
    document = make_pdf()
    return document, Client(service.url, service.api_key("client")).sign_pdf(document, signer="demo-seal")


def test_the_default_is_good_for_the_archive(service: Service, archived: tuple[bytes, bytes], tmp_path: Path) -> None:
    document, signed = archived
    assert signed.startswith(document)
    assert verdict(service, signed) == ("valid", "B-LTA")
    assert judge(tmp_path, signed)[0]  # the archive timestamp behind it is nothing that pdfsig judges


def test_a_signed_file_is_extended_without_leaving(service: Service, client: Client, proxy: RecordingProxy) -> None:
    signed = client.sign_pdf(make_secret_pdf(100_000), level="B-T")
    proxy.sent.clear()
    extended = client.extend_pdf(signed)
    assert extended.startswith(signed)
    assert verdict(service, extended) == ("valid", "B-LTA")
    assert sum(map(len, proxy.sent)) < 50_000
    assert client.extend_pdf(extended, level="B-LT").startswith(extended)
    with pytest.raises(DocumentError, match="nothing to extend"):
        client.extend_pdf(make_pdf())


@pytest.mark.interop
def test_eu_dss_finds_it_a_baseline_lta(service: Service, archived: tuple[bytes, bytes]) -> None:
    root = x509.load_pem_x509_certificate(service.request("GET", "/ca/root.pem").body)
    try:
        with Dss() as dss:
            [said] = dss.judge(archived[1], root)
    except Away as reason:
        pytest.skip(str(reason))
    assert said.short == ("TOTAL_PASSED", "PAdES-BASELINE-LTA"), said


def test_a_file_is_signed_in_place_of_itself_and_left_alone_when_that_fails(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "công văn.pdf"
    document = make_pdf()
    path.write_bytes(document)
    client.sign_file(path, path, level="B-B", options=Options(reason="Ban hành", location="Thử Nghiệm"))
    client.sign_file(path, path, level="B-B")
    assert judge(tmp_path, path.read_bytes()) == [True, True]
    before = path.read_bytes()
    with pytest.raises(Rejected):
        client.sign_file(path, path, signer="nobody")
    path.with_name("broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    with pytest.raises(DocumentError):
        client.sign_file(path.with_name("broken.pdf"), path, level="B-B")
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


def test_an_empty_field_is_signed_in(client: Client, tmp_path: Path) -> None:
    signed = client.sign_pdf(add_empty_field(make_pdf(), "CơQuan"), level="B-B", options=Options(field="CơQuan"))
    assert judge(tmp_path, signed) == [True]


def test_an_encrypted_file_is_signed_with_its_password(client: Client, tmp_path: Path) -> None:
    document = qpdf(tmp_path, make_pdf(), "--encrypt", "mở", "chủ", "256", "--")
    with pytest.raises(DocumentError, match="encrypted"):
        client.sign_pdf(document, level="B-B")
    signed = client.sign_pdf(document, level="B-B", options=Options(password="mở"))
    assert judge(tmp_path, signed, password="mở") == [True]
    with pytest.raises(DocumentError, match="does not open"):
        client.sign_pdf(document, level="B-B", options=Options(password="khác"))


def test_an_encrypted_file_that_anybody_may_open_needs_no_password(client: Client, tmp_path: Path) -> None:
    document = qpdf(tmp_path, make_pdf(), "--encrypt", "", "chủ", "256", "--print=none", "--")
    signed = client.sign_pdf(document, level="B-B")
    assert judge(tmp_path, signed) == [True]
    assert client.extend_pdf(signed, level="B-LT").startswith(signed)


def test_a_hole_that_was_too_small_is_made_anew(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condau_client.pdf.TIMESTAMP_ROOM", 0)
    monkeypatch.setattr("condau_client.pdf._ATTRIBUTES", -500)
    document = make_pdf()
    signed = client.sign_pdf(document, level="B-T")
    assert judge(tmp_path, signed) == [True]
    assert signed.count(b"/ByteRange") == 1


def test_the_three_steps_can_be_taken_one_by_one(client: Client, tmp_path: Path) -> None:
    signer = client.find_signer("demo-seal")
    file = io.BytesIO(make_pdf())
    prepared = prepare(file, signer)
    signature, material = client.sign_digest(prepared.digest, signer, "B-B")
    assert material is None
    finish(prepared, signature)
    assert judge(tmp_path, file.getvalue()) == [True]
    assert take_apart(file.getvalue())[1] == signature


def test_a_signature_over_something_else_is_not_taken(client: Client) -> None:
    signer = client.find_signer("demo-seal")
    prepared = prepare(io.BytesIO(make_pdf()), signer)
    other, _ = client.sign_digest(bytes(len(prepared.digest)), signer, "B-B")
    with pytest.raises(Exception, match="no good signature over this document"):
        finish(prepared, other)


def test_a_folder_is_signed_by_its_digests_in_one_call(service: Service, proxy: RecordingProxy, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(service.api_key("client"), encoding="utf-8")
    folder = tmp_path / "vào"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.pdf").write_bytes(make_secret_pdf(100_000))
    (folder / "hỏng.pdf").write_bytes(b"no PDF")
    (folder / "thư.txt").write_bytes(b"not asked for")
    proxy.sent.clear()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "CONDAU_URL": f"http://127.0.0.1:{proxy.port}"}
    command = [sys.executable, "-m", "condau_client.cli", "--key-file", "key", "batch"]
    done = run(*command, folder, "--output", tmp_path / "ra", "--signer", "demo-seal", check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert "3 of 4 signed" in done.stdout
    assert "hỏng.pdf: this PDF cannot be signed" in done.stderr
    assert sorted(path.name for path in (tmp_path / "ra").iterdir()) == ["0.pdf", "1.pdf", "2.pdf"]
    for path in (tmp_path / "ra").iterdir():
        assert path.read_bytes().startswith((folder / path.name).read_bytes())
        assert judge(tmp_path, path.read_bytes())[0]
    lines = [bytes(sent).partition(b"\r\n")[0].split(b" ")[:2] for sent in proxy.sent]
    assert [what for what in lines if b"batches?" in what[1]] == [[b"POST", lines[1][1]]]
    assert sum(map(len, proxy.sent)) < 8_000


def test_what_the_service_refuses_is_typed(client: Client, proxy: RecordingProxy) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    with pytest.raises(Unauthenticated):
        Client(url, "no-such-key").signers()
    signer = client.find_signer("demo-seal")
    with pytest.raises(Conflict, match="digest the document with that"):
        client.sign_digest(bytes(64), _with_hash(signer, "sha512"), "B-B")
    with pytest.raises(Rejected, match="is not signed here") as refused:
        client.sign_digest(bytes(20), _with_hash(signer, "sha1"), "B-B")
    assert (refused.value.status, refused.value.violations[0].field) == (422, "algorithm")
    assert refused.value.request_id
    with pytest.raises(Rejected, match="32 bytes"):
        client.sign_digest(bytes(31), signer, "B-B")


def _with_hash(signer: Signer, algorithm: str) -> Signer:
    return Signer(signer.handle, signer.serial, signer.subject, algorithm, signer.certificate, signer.chain)


def test_a_lost_answer_is_asked_for_again_and_the_key_used_once(service: Service, client: Client, proxy: RecordingProxy) -> None:
    signer = client.find_signer("demo-seal")
    proxy.sent.clear()
    proxy.refuse, proxy.lose = 1, 1
    signature, _ = client.sign_digest(bytes(range(32)), signer, "B-B")
    assert signature
    keys = [re.findall(rb"(?i)idempotency-key: (\w+)", bytes(sent)) for sent in proxy.sent]
    assert len(keys) == 2
    assert keys[0] == keys[1]
    answer = service.request("GET", f"/v1/audit-entries?subject={signer.serial}&limit=100", key="auditor")
    assert answer.body.count(bytes(range(32)).hex().encode()) == 1


def test_patience_ends(service: Service) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        Client("http://127.0.0.1:1", service.api_key("client"), patience=0.3).signers()


def test_the_command_takes_its_key_from_a_file(service: Service, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(service.api_key("client") + "\n", encoding="utf-8")
    (tmp_path / "a.pdf").write_bytes(make_pdf())
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "CONDAU_URL": service.url}
    command = [sys.executable, "-m", "condau_client.cli", "--key-file", "key", "sign", "a.pdf", "--output", "b.pdf"]
    done = run(*command, "--level", "B-T", cwd=tmp_path, env=environment)
    assert "only its digest left this machine" in done.stdout
    assert judge(tmp_path, (tmp_path / "b.pdf").read_bytes()) == [True]
    done = run(*[item for item in command if item not in ("--key-file", "key")], check=False, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "CONDAU_API_KEY" in done.stderr
