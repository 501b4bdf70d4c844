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
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Self

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
        return [Signer.of_json(item) for item in self.get("/v1/signers")["signers"]]

    def find_signer(self, name: str | None = None) -> Signer:
        """The signer with this handle or serial number; the only one there is, where None is given. Raises Rejected."""
        found = [item for item in self.signers() if name in (None, item.handle, item.serial)]
        if len(found) != 1:
            known = "several" if found else "none"
            raise Rejected(
                f"signer: {known} of the certificates this API key may use {'is meant' if name is None else 'is ' + name}"
            )
        return found[0]

    def sign_digest(
        self, digest: bytes, signer: Signer, level: Level = "B-T", *, activation: str | None = None
    ) -> tuple[bytes, Material | None]:
        """A detached CMS signature (DER) over what has this digest, and for B-LT and B-LTA what checking it will need.

        ``activation``: the token of one, for a key that asks for it.
        """
        asked = {"digest": digest.hex(), "algorithm": signer.algorithm, "signer": signer.serial, "level": level}
        return read_signature(self.post("/v1/signatures/digest", asked, activation=activation))

    def sign_pdf(
        self,
        document: bytes | Path,
        *,
        level: Level = "B-LTA",
        signer: str | None = None,
        options: Options | None = None,
        activation: str | None = None,
    ) -> bytes:
        """The signed PDF; of ``document`` only its digest is sent. For a large file take :meth:`sign_file`."""
        file = io.BytesIO(document.read_bytes() if isinstance(document, Path) else document)
        self.sign_open(file, self.find_signer(signer), level, options, activation=activation)
        return file.getvalue()

    def sign_file(
        self,
        source: Path,
        target: Path,
        *,
        level: Level = "B-LTA",
        signer: str | None = None,
        options: Options | None = None,
        activation: str | None = None,
    ) -> None:
        """The same from file to file, in little memory; ``target`` is there whole or not at all, and may be ``source``."""
        chosen = self.find_signer(signer)
        with Part(source, target) as part:
            self.sign_open(part.file, chosen, level, options, activation=activation)
            part.commit()

    def extend_pdf(self, document: bytes | Path, *, level: Level = "B-LTA", password: str | None = None) -> bytes:
        """A PDF that is signed already, here or elsewhere, with what checking its signatures needs, and time-stamped as a whole.

        Of the document only its signatures are sent, which hold its digest. ``level`` is B-LT or B-LTA.
        """
        file = io.BytesIO(document.read_bytes() if isinstance(document, Path) else document)
        self._extend(file, level, password)
        return file.getvalue()

    def extend_file(self, source: Path, target: Path, *, level: Level = "B-LTA", password: str | None = None) -> None:
        """The same from file to file."""
        with Part(source, target) as part:
            self._extend(part.file, level, password)
            part.commit()

    def sign_open(
        self, file: BinaryIO, signer: Signer, level: Level, options: Options | None = None, *, activation: str | None = None
    ) -> None:
        """Sign a PDF in ``file``, which is open for reading and writing and is changed."""
        original = file.seek(0, io.SEEK_END)
        room: int | None = None
        while True:
            prepared = prepare(file, signer, options, room=room)
            signature, material = self.sign_digest(prepared.digest, signer, level, activation=activation)
            try:
                finish(prepared, signature)
                break
            except HoleTooSmall as error:
                if room is not None and error.size <= room:
                    raise
                room = error.size + 1024
                file.truncate(original)
        self.make_last(prepared, level, material)

    def make_last(self, prepared: Prepared, level: Level, material: Material | None) -> None:
        """Bring a finished file from B-T to ``level``; nothing to do for B-B and B-T."""
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

    def post(self, path: str, body: dict[str, Any], *, activation: str | None = None) -> dict[str, Any]:
        """Send JSON under an idempotency key of its own, so that it is carried out once however often it is sent."""
        headers = {"Content-Type": _JSON, "Idempotency-Key": uuid.uuid4().hex}
        if activation is not None:
            headers["Condau-Activation"] = activation
        return _object(self.transport.request("POST", path, json.dumps(body).encode(), headers=headers).body)

    def get(self, path: str) -> dict[str, Any]:
        """Ask for JSON."""
        return _object(self.transport.request("GET", path).body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise ServiceFault("the service's answer is no JSON: is the address the right one?") from error
    if not isinstance(found, dict):
        raise ServiceFault("the service's answer is no JSON object: is the address the right one?")
    return found


def read_signature(found: dict[str, Any]) -> tuple[bytes, Material | None]:
    """The CMS and the validation material in an answer about a digest; raises ServiceFault."""
    try:
        validation = found.get("validation")
        return base64.b64decode(found["cms"], validate=True), None if validation is None else Material.of_json(validation)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ServiceFault("the service's answer to a digest cannot be read") from error


class Part:
    """A copy of ``source`` to work on, which becomes ``target`` when it is committed, and is gone when the block ends without."""

    def __init__(self, source: Path, target: Path) -> None:
        self._target = target
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".part")
        self._path = Path(name)
        self.file: BinaryIO = os.fdopen(descriptor, "w+b")
        try:
            with source.open("rb") as original:
                shutil.copyfileobj(original, self.file, 1 << 20)
        except BaseException:
            self.close()
            raise

    def commit(self) -> None:
        """Put it in the place of ``target``, whole and on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        self._path.chmod(0o666 & ~umask)  # what any new file would have
        self._path.replace(self._target)

    def close(self) -> None:
        """Throw away what was not committed."""
        self.file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
