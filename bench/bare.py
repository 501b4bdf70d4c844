"""The bare signature rate of one key through python-pkcs11: the ceiling everything else is held against.

``python -m bench.bare <home> <key label> <seconds>`` prints signatures a second of one process, and the processor time of one in
microseconds. It goes around the hsm room on purpose: a session, a key, a loop. Only the login is under the room's guard,
because two logins at once disturb each other in SoftHSM.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import pkcs11

from core.config import export_module_environment, load_config
from hsm.softhsm_guard import load_guard

_LOGIN_WAIT: Final = 30.0


def rate(home: Path, label: str, seconds: float) -> tuple[float, float]:
    """Signatures a second over a SHA-256 digest, by the mechanism the service uses, and microseconds of processor time for one."""
    config = load_config(home).hsm
    export_module_environment(config)
    guard = load_guard(config)
    with guard.held("login", _LOGIN_WAIT) if guard else nullcontext():
        token = pkcs11.lib(str(config.module)).get_token(token_label=config.token_label)
        opened = token.open(user_pin=config.pin_file.read_text().strip())
    with opened as session:
        key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=label)
        assert isinstance(key, pkcs11.SignMixin)
        elliptic = key.key_type == pkcs11.KeyType.EC
        mechanism = pkcs11.Mechanism.ECDSA if elliptic else pkcs11.Mechanism.RSA_PKCS
        data = bytes(32) if elliptic else bytes.fromhex("3031300d060960864801650304020105000420") + bytes(32)
        count, began, used = 0, time.perf_counter(), time.process_time()
        while (elapsed := time.perf_counter() - began) < seconds:
            key.sign(data, mechanism=mechanism)
            count += 1
        return count / elapsed, (time.process_time() - used) / count * 1e6


if __name__ == "__main__":
    print(*rate(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
