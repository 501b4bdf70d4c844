"""The client: hand it a PDF and get it back signed, while nothing of it but digests went over the wire."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import ssl
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from condau_client.errors import DocumentError, Rejected, ServiceFault
from condau_client.pdf import (
    HoleTooSmall,
    Material,
    Options,
    Prepared,
    Signer,
    add_archive_timestamp,
    add_material,
    finish,
    prepare,
    signatures_of,
)
from condau_client.transport import Transport

Level = Literal["B-B", "B-T", "B-LT", "B-LTA"]
"""PAdES baseline levels (ETSI EN 319 142-1): the signature alone; timestamped; with all that checking it needs; for the archive."""
LEVELS: Final[tuple[Level, ...]] = ("B-B", "B-T", "B-LT", "B-LTA")
_JSON: Final = "application/json"


class Client:
    """One Condau, as one API key sees it. Several threads may use one.

    It waits for work to be done with the network and runs pyHanko's own event loop: in a coroutine, call it in a thread.
    """

    def __init__(
        self, url: str, api_key: str, *, timeout: float = 60.0, patience: float = 60.0, tls: ssl.SSLContext | None = None
    ) -> None:
        """``url``: the service's ``public_url``; ``patience``: seconds for which a service that is away is asked again."""
        self.transport = Transport(url, api_key, timeout=timeout, patience=patience, tls=tls)

    def signers(self) -> list[Signer]:
        """Everything the API key may sign with now."""
        return [Signer.of_json(item) for item in self._get("/v1/signers")["signers"]]

    def find_signer(self, name: str | None = None) -> Signer:
        """The signer with this handle or serial number; the only one there is, where None is given. Raises Rejected."""
        found = [item for item in self.signers() if name in (None, item.handle, item.serial)]
        if len(found) != 1:
            known = "several" if found else "none"
            raise Rejected(
                f"signer: {known} of the certificates this API key may use {'is meant' if name is None else 'is ' + name}"
            )
        return found[0]

    def sign_digest(self, digest: bytes, signer: Signer, level: Level = "B-T") -> tuple[bytes, Material | None]:
        """A detached CMS signature (DER) over what has this digest, and for B-LT and B-LTA what checking it will need."""
        asked = {"digest": digest.hex(), "algorithm": signer.algorithm, "signer": signer.serial, "level": level}
        answer = self.post("/v1/signatures/digest", asked)
        try:
            found = answer.get("validation")
            return base64.b64decode(answer["cms"], validate=True), None if found is None else Material.of_json(found)
        except (KeyError, ValueError, TypeError) as error:
            raise ServiceFault("the service's answer to a digest cannot be read") from error

    def sign_pdf(
        self, document: bytes | Path, *, level: Level = "B-LTA", signer: str | None = None, options: Options | None = None
    ) -> bytes:
        """The signed PDF; of ``document`` only its digest is sent. For a large file take :meth:`sign_file`."""
        file = io.BytesIO(document.read_bytes() if isinstance(document, Path) else document)
        self._sign(file, level, self.find_signer(signer), options)
        return file.getvalue()

    def sign_file(
        self,
        source: Path,
        target: Path,
        *,
        level: Level = "B-LTA",
        signer: str | None = None,
        options: Options | None = None,
    ) -> None:
        """The same from file to file, in little memory; ``target`` is there whole or not at all, and may be ``source``."""
        chosen = self.find_signer(signer)
        with _replacing(source, target) as file:
            self._sign(file, level, chosen, options)

    def extend_pdf(self, document: bytes | Path, *, level: Level = "B-LTA", password: str | None = None) -> bytes:
        """A PDF that is signed already, here or elsewhere, with what checking its signatures needs, and time-stamped as a whole.

        Of the document only its signatures are sent, which hold its digest. ``level`` is B-LT or B-LTA.
        """
        file = io.BytesIO(document.read_bytes() if isinstance(document, Path) else document)
        self._extend(file, level, password)
        return file.getvalue()

    def extend_file(self, source: Path, target: Path, *, level: Level = "B-LTA", password: str | None = None) -> None:
        """The same from file to file."""
        with _replacing(source, target) as file:
            self._extend(file, level, password)

    def _sign(self, file: BinaryIO, level: Level, signer: Signer, options: Options | None) -> None:
        original = _size(file)
        room: int | None = None
        while True:
            prepared = prepare(file, signer, options, room=room)
            signature, material = self.sign_digest(prepared.digest, signer, level)
            try:
                finish(prepared, signature)
                break
            except HoleTooSmall as error:
                if room is not None and error.size <= room:
                    raise
                room = error.size + 1024
                file.truncate(original)
        self._make_last(prepared, level, material)

    def _make_last(self, prepared: Prepared, level: Level, material: Material | None) -> None:
        if level in ("B-B", "B-T"):
            return
        if material is None:
            raise ServiceFault(f"the service sent no validation material, and {level} needs it")
        add_material(prepared.file, material, prepared.options.password)
        if level == "B-LTA":
            add_archive_timestamp(prepared.file, self.transport, prepared.options.password)

    def _extend(self, file: BinaryIO, level: Level, password: str | None) -> None:
        if level not in ("B-LT", "B-LTA"):
            raise ValueError("a signature is extended to B-LT or B-LTA")
        signatures = signatures_of(file, password)
        if not signatures:
            raise DocumentError("this PDF carries no signature: there is nothing to extend")
        for signature in signatures:
            answer = self.post("/v1/signatures/validation-material", {"cms": base64.b64encode(signature).decode("ascii")})
            add_material(file, Material.of_json(answer), password)
        if level == "B-LTA":
            add_archive_timestamp(file, self.transport, password)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send JSON under an idempotency key of its own, so that it is carried out once however often it is sent."""
        headers = {"Content-Type": _JSON, "Idempotency-Key": uuid.uuid4().hex}
        return _object(self.transport.request("POST", path, json.dumps(body).encode(), headers=headers).body)

    def _get(self, path: str) -> dict[str, Any]:
        return _object(self.transport.request("GET", path).body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise ServiceFault("the service's answer is no JSON: is the address the right one?") from error
    if not isinstance(found, dict):
        raise ServiceFault("the service's answer is no JSON object: is the address the right one?")
    return found


def _size(file: BinaryIO) -> int:
    return file.seek(0, io.SEEK_END)


@contextmanager
def _replacing(source: Path, target: Path) -> Iterator[BinaryIO]:
    """A copy of ``source`` to work on, which becomes ``target`` when the block ends well, and is gone when it does not."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            with source.open("rb") as original:
                shutil.copyfileobj(original, file, 1 << 20)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
