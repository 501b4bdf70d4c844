"""Batches against a running service: by command, and in one call. (What kill -9 does to one is in test_jobs.)"""

from __future__ import annotations

import json
from pathlib import Path

from tests.service import CONDAU, Service
from tests.signer.pdfs import judge, make_pdf, qpdf
from tests.system.conftest import run


def _kept(service: Service) -> set[Path]:
    """The folders in the spool."""
    return set((service.home / "spool" / "batches").glob("*"))


def test_a_folder_is_signed_by_one_command(service: Service, tmp_path: Path) -> None:
    (tmp_path / "vào").mkdir()
    (tmp_path / "vào" / "a.pdf").write_bytes(make_pdf())
    (tmp_path / "vào" / "hỏng.pdf").write_bytes(b"no PDF")
    (tmp_path / "vào" / "khóa.pdf").write_bytes(qpdf(tmp_path, make_pdf(), "--encrypt", "mở cửa", "owner", "256", "--"))
    (tmp_path / "password").write_text("mở cửa\n")
    before = _kept(service)
    client = service.credentials()["client"]["name"]
    command = [*CONDAU, "batch", "sign", tmp_path / "vào", "--output", tmp_path / "ra", "--client", client, "--level", "B-T"]
    command += ["--signer", "demo-seal", "--password-file", tmp_path / "password"]
    done = run(*command, check=False, env=service.environment)
    assert (done.returncode, "2 of 3 signed" in done.stdout) == (1, True), done.stderr
    assert "hỏng.pdf: document: " in done.stderr
    assert judge(tmp_path, (tmp_path / "ra" / "a.pdf").read_bytes()) == [True]
    assert judge(tmp_path, (tmp_path / "ra" / "khóa.pdf").read_bytes(), password="mở cửa") == [True]
    assert _kept(service) == before


def test_files_of_one_call_come_back_at_the_level_asked_for(service: Service, tmp_path: Path) -> None:
    documents = [make_pdf(pages=number) for number in (1, 2, 3)]
    head = '--b\r\nContent-Disposition: form-data; name="file"; filename="{}.pdf"\r\n\r\n'
    parts = [head.format(number).encode() + document + b"\r\n" for number, document in enumerate(documents)]
    body, kind = b"".join(parts) + b"--b--\r\n", "multipart/form-data; boundary=b"
    path = "/v1/signatures/batches?level=B-LTA&signer=demo-seal&wait=20"
    answer = service.request("POST", path, body, key="client", kind=kind)
    batch = json.loads(answer.body)
    assert (answer.status, batch["state"], batch["progress"]["done"]) == (201, "done", 3)
    for number, document in enumerate(documents, start=1):
        path = f"/v1/signatures/batches/{batch['id']}/items/{number}/document"
        signed = service.request("GET", path, key="client").body
        assert signed.startswith(document)
        assert judge(tmp_path, signed)[0]
