"""The embedded default: a SoftHSM token made for an instance, complete or not at all.

The store is built in a draft folder and renamed into place when it is whole, so that an ``init`` killed half-way leaves
nothing that a second one would trip over. PINs are random, travel through files of mode 0600 and memory only, and are never
on a command line, in the environment or in a log.
"""

from __future__ import annotations

import ctypes
import dataclasses
import secrets
import shutil
from pathlib import Path

from core.errors import Rejected, Unavailable
from core.settings import HsmConfig
from hsm.softhsm_guard import StoreGuard, replace_file
from hsm.token import Token, load_pin, sole_use

CONF_NAME = "softhsm2.conf"
_LABEL_SIZE = 32
"""Bytes of a token's label, padded with blanks (CK_TOKEN_INFO)."""


def init_softhsm(config: HsmConfig, *, so_pin_file: Path) -> bool:
    """Make the SoftHSM token that ``config`` describes, and its PIN files where they are missing; False if it exists already.

    ``config.environment["SOFTHSM2_CONF"]`` says where: that file and the folder ``tokens`` are put into one folder, which
    must not exist yet. Raises Rejected for another configuration, Unavailable when SoftHSM fails.
    """
    conf = Path(config.environment.get("SOFTHSM2_CONF", ""))
    if conf.name != CONF_NAME or not conf.is_absolute():
        raise Rejected("hsm.environment.SOFTHSM2_CONF", f"must be the absolute path of a file named {CONF_NAME}")
    missing = not conf.exists()
    if missing:
        _make_store(config, conf.parent, so_pin_file)
    token = Token(config)
    try:
        token.ensure_probe_key()
    finally:
        token.close()
    return missing


def ensure_named_tokens(config: HsmConfig) -> None:
    """Make those of ``config.tokens`` that have no PIN file yet, in the embedded SoftHSM and with new PINs.

    The security officer's PIN lies beside the user's, in ``<pin_file>.so``. Raises Unavailable when SoftHSM fails.
    """
    for named in config.tokens:
        if not named.pin_file.exists():  # with its PIN there, it was made before: one that is away is not made anew
            pin = _ensure_pin(named.pin_file)
            so_pin = _ensure_pin(named.pin_file.with_name(named.pin_file.name + ".so"))
            _init_token(dataclasses.replace(config, token_label=named.token_label), pin, so_pin)


def _make_store(config: HsmConfig, folder: Path, so_pin_file: Path) -> None:
    pin, so_pin = _ensure_pin(config.pin_file), _ensure_pin(so_pin_file)
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        _write_settings(draft, draft)
        _init_token(dataclasses.replace(config, environment={"SOFTHSM2_CONF": str(draft / CONF_NAME)}), pin, so_pin)
        StoreGuard(draft / "tokens").keep()
        _write_settings(draft, folder)
        draft.rename(folder)
    except OSError as error:
        raise Unavailable("hsm", f"the token's folder {folder} cannot be made: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already when all went well


def _write_settings(folder: Path, as_if_in: Path) -> None:
    (folder / "tokens").mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    lines = (f"directories.tokendir = {as_if_in / 'tokens'}", "objectstore.backend = file", "log.level = ERROR")
    (folder / CONF_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _ensure_pin(path: Path) -> str:
    """The PIN in ``path``; a new random one if there is no such file."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, f"{secrets.token_urlsafe(24)}\n".encode())
    return load_pin(path)


def _init_token(config: HsmConfig, pin: str, so_pin: str) -> None:
    """C_InitToken on the free slot, which SoftHSM lists last, then C_InitPIN; python-pkcs11 has no call for the first."""
    with sole_use(config) as library:
        slot = library.get_slots()[-1]
        c_init_token = ctypes.CDLL(str(config.module)).C_InitToken
        c_init_token.restype = ctypes.c_ulong
        secret = so_pin.encode()
        label = config.token_label.encode().ljust(_LABEL_SIZE)
        result = c_init_token(ctypes.c_ulong(slot.slot_id), secret, ctypes.c_ulong(len(secret)), label)
        if result != 0:
            raise Unavailable("hsm", f"SoftHSM refuses to make a token: CKR 0x{result:x}")
        library.reinitialize()  # only then has the new token a slot of its own
        with library.get_token(token_label=config.token_label).open(rw=True, so_pin=so_pin) as session:
            session.init_pin(pin)
