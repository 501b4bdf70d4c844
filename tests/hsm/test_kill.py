"""SoftHSM's file store after kill -9, and beside programs that are not ours."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import NotFound, Unavailable
from core.settings import HsmConfig
from hsm.keys import KeySpec
from hsm.softhsm import init_softhsm
from hsm.softhsm_guard import StoreGuard, load_guard, parse_object
from hsm.token import Token
from tests.hsm.instance import instance_config, pkcs11_tool, start_program, token_folder

KILLS = 30
SEED = 20250101


@pytest.mark.slow
def test_the_token_survives_kills_while_logging_in_and_making_keys(config: HsmConfig, tmp_path: Path) -> None:
    """Three processes at a time do nothing but log in and make keys; each is killed at a random instant."""
    code = (
        "token = Token(config)\n"
        "while True:\n"
        "    for turn in range(3):\n"
        "        token.probe(); token.close()\n"
        "    label = os.urandom(8).hex(); token.generate(label, KeySpec.P_256); print(label, flush=True)\n"
    )
    chance = random.Random(SEED)
    acknowledged: list[str] = []
    for _ in range(KILLS // 3):
        programs = [start_program(code, tmp_path) for _ in range(3)]
        for program in programs:
            assert program.stdout is not None
            acknowledged.append(program.stdout.readline().strip())
        for program in programs:
            time.sleep(chance.random() * 0.03)
            os.kill(program.pid, signal.SIGKILL)
        for program in programs:
            output, _ = program.communicate(timeout=60)
            acknowledged += [line for line in output.splitlines() if len(line) == 16]
            assert "Error" not in output
        token = Token(config)
        token.probe()
        token.close()
    token = Token(config)
    for label in acknowledged:
        key = token.key(label)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        key.public_key().verify(key.sign(b"m", ec.ECDSA(hashes.SHA256())), b"m", ec.ECDSA(hashes.SHA256()))
    token.close()
    assert len(acknowledged) >= KILLS


def test_a_damaged_token_file_is_put_back(token: Token, tmp_path: Path) -> None:
    token.probe()
    path = token_folder(tmp_path) / "token.object"
    whole = path.read_bytes()
    for length in (0, 8, 20, 100, len(whole) - 1):
        token.close()
        path.write_bytes(whole[:length])
        token.probe()
        assert parse_object(path.read_bytes()) is not None
    token.close()
    path.unlink()
    token.probe()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_changed_pin_is_kept_not_undone(token: Token, config: HsmConfig, tmp_path: Path) -> None:
    """The copy follows the token: after a damage, the new PIN opens it."""
    token.probe()
    token.close()
    pkcs11_tool(config, "--change-pin", "--new-pin", "a-new-pin")
    config.pin_file.write_text("a-new-pin\n", encoding="utf-8")
    token.probe()
    token.close()
    (token_folder(tmp_path) / "token.object").write_bytes(b"")
    token.probe()


def test_half_made_keys_are_passed_over(token: Token, tmp_path: Path) -> None:
    """Either file of a pair cut short at any attribute: its label is free, and every other key works."""
    folder = token_folder(tmp_path)
    good = token.generate("good", KeySpec.P_256)
    known = set(folder.glob("*.object"))
    token.generate("half", KeySpec.P_256)
    whole = {path: path.read_bytes() for path in set(folder.glob("*.object")) - known}
    assert len(whole) == 2
    for path, content in whole.items():
        for length in sorted({0, 8, 9, *range(16, len(content), 37)}):
            token.close()
            path.write_bytes(content[:length])
            with pytest.raises(NotFound):
                token.key("half")
            assert token.key("good").public_key() == good.public_key()
            assert "good" in token.labels()
        path.write_bytes(b"")
    again = token.generate("half", KeySpec.P_256)
    token.close()
    assert token.key("half").public_key() == again.public_key()


def test_a_program_that_is_not_ours_may_log_in_meanwhile(token: Token, config: HsmConfig) -> None:
    """pkcs11-tool knows no lock of ours and disturbs logins; ours are tried again until they succeed."""
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            pkcs11_tool(config, "-O")

    threads = [threading.Thread(target=disturb) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            token.probe()
            token.close()
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_an_init_killed_half_way_is_done_again(tmp_path: Path) -> None:
    code = (
        "from hsm.softhsm import init_softhsm\n"
        "print('go', flush=True)\n"
        "init_softhsm(config, so_pin_file=config.pin_file.with_name('so-pin'))\n"
    )
    chance = random.Random(SEED)
    for turn in range(10):
        home = tmp_path / str(turn)
        home.mkdir()
        with start_program(code, home) as program:
            assert program.stdout is not None
            program.stdout.readline()
            time.sleep(chance.random() * 0.05)
            program.kill()
        config = instance_config(home)
        init_softhsm(config, so_pin_file=home / "secrets" / "so-pin")
        token = Token(config)
        token.probe()
        token.close()


def test_one_process_at_a_time_holds_the_store(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    guard = StoreGuard(tmp_path / "tokens")
    with guard.held("login", 1), pytest.raises(Unavailable, match="another process"), guard.held("login", 0.05):
        pytest.fail("two held it")
    with guard.held("login", 0.05):
        pass


def test_the_guard_is_for_softhsm_with_files_only(config: HsmConfig, tmp_path: Path) -> None:
    assert load_guard(config) is not None
    assert load_guard(HsmConfig(module=Path("/usr/lib/other.so"), environment=config.environment)) is None
    assert load_guard(HsmConfig()) is None
    other = tmp_path / "db.conf"
    shutil.copy(config.environment["SOFTHSM2_CONF"], other)
    other.write_text(other.read_text(encoding="utf-8").replace("= file", "= db"), encoding="utf-8")
    assert load_guard(HsmConfig(environment={"SOFTHSM2_CONF": str(other)})) is None
