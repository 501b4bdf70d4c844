"""The sample letter, approved by its officer, with a QR code."""

from __future__ import annotations

import json

from tests.service import ROOT, Service


def sign_with_code(service: Service, *, level: str) -> bytes:
    """Signed by the service, as the README does it."""
    parts = [
        (b'document"; filename="x.pdf', (ROOT / "examples" / "cong-van.pdf").read_bytes()),
        (b'image"; filename="x.png', (ROOT / "examples" / "chu-ky.png").read_bytes()),
        (b"options", json.dumps({"profile": "person", "level": level, "qr": True}).encode()),
    ]
    body = b"".join(b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part for part in parts) + b"--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    answer = service.request("POST", "/v1/signatures/pdf", body, key="officer_client", kind=kind)
    assert answer.status == 200, answer.body
    return answer.body
