"""Many users of one token: threads, processes, forks; and faults of sessions, keys and PINs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from core.errors import NotFound, Rejected, Unavailable
from core.settings import HsmConfig
from hsm import connection as connection_module
from hsm.keys import KeySpec
from hsm.softhsm import init_softhsm
from hsm.token import Token
from tests.hsm.instance import make_instance, run_program, start_program, token_folder

ECDSA = ec.ECDSA(hashes.SHA256())


def check_signature(token: Token, label: str) -> None:
    """Sign with an EC key and verify."""
    key = token.key(label)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    key.public_key().verify(key.sign(b"message", ECDSA), b"message", ECDSA)


def test_threads_share_one_token(token: Token) -> None:
    """Eight threads, two kinds of key, finding, signing and making keys at once."""
    rsa_key = token.generate("rsa", KeySpec.RSA_2048)
    assert isinstance(rsa_key, rsa.RSAPrivateKey)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                check_signature(token, "condau-probe")
                signature = rsa_key.sign(b"m", padding.PKCS1v15(), hashes.SHA256())
                rsa_key.public_key().verify(signature, b"m", padding.PKCS1v15(), hashes.SHA256())
                if turn % 20 == 0:
                    token.generate(f"ec-{number}-{turn}", KeySpec.P_256)
                    check_signature(token, f"ec-{number}-{turn}")
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must tell
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(token.labels()) == 2 + 8 * 2


def test_processes_share_one_token(config: HsmConfig, tmp_path: Path) -> None:
    """Four processes log in, sign and make keys at once; none sees an error, each sees what the others made."""
    code = (
        "token = Token(config)\n"
        "for turn in range(6):\n"
        "    token.probe()\n"
        "    token.generate(f'{os.getpid()}-{turn}', KeySpec.P_256)\n"
        "    if turn % 2 == 0: token.close()\n"
        "print('done')\n"
    )
    programs = [start_program(code, tmp_path) for _ in range(4)]
    for program in programs:
        output, _ = program.communicate(timeout=60)
        assert (program.returncode, output) == (0, "done\n")
    token = Token(config)
    labels = [label for label in token.labels() if label != "condau-probe"]
    assert len(set(labels)) == 24
    for label in labels:
        check_signature(token, label)
    token.close()


def test_a_forked_child_opens_the_token_for_itself(config: HsmConfig, tmp_path: Path) -> None:
    code = (
        "token = Token(config); token.probe()\n"
        "for _ in range(3):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        for _ in range(50): token.probe()\n"
        "        sys.exit(0)\n"
        "    for _ in range(50): token.probe()\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "token.probe(); print('done')\n"
    )
    assert config.sessions == 1
    assert run_program(code, tmp_path) == "done\n"


@pytest.mark.parametrize("code", ["", "token.close()", "threading.Thread(target=forever, daemon=True).start(); time.sleep(0.1)"])
def test_a_process_that_leaves_the_token_open_exits_cleanly(config: HsmConfig, tmp_path: Path, code: str) -> None:
    """Some modules crash when they are finalised after the libraries they use are gone."""
    head = "token = Token(config); token.probe()\ndef forever():\n    while True: token.probe()\n"
    assert config.module.exists()
    for _ in range(3):
        run_program(head + code, tmp_path)


def test_two_instances_take_the_module_from_each_other(config: HsmConfig, tmp_path: Path) -> None:
    """Not how the service runs, but how a command beside a test does: the same token, and another one."""
    (tmp_path / "other").mkdir()
    other_config = make_instance(tmp_path / "other")
    first, second, other = Token(config), Token(config), Token(other_config)
    first.generate("first", KeySpec.P_256)
    for _ in range(3):
        check_signature(first, "first")
        check_signature(second, "first")
        with pytest.raises(NotFound):
            other.key("first")
    for token in (first, second, other):
        token.close()


def test_sessions_lost_behind_our_back_are_opened_again(token: Token) -> None:
    key = token.key("condau-probe")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for _ in range(3):
        assert token._connection is not None
        token._connection._all[0].session.close()
        key.public_key().verify(key.sign(b"m", ECDSA), b"m", ECDSA)
        token._library.finalize()
        key.public_key().verify(key.sign(b"m", ECDSA), b"m", ECDSA)


def test_closing_waits_for_the_calls_that_are_inside(token: Token) -> None:
    """Finalising a module while another thread is in it crashes the process; so nobody may be."""
    failures: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            try:
                check_signature(token, "condau-probe")
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test must tell
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        token.close()
        time.sleep(0.005)
    done.set()
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_one_unusable_key_does_not_disturb_the_others(token: Token, tmp_path: Path) -> None:
    """Its fault is its own: the token is not re-opened for it, and nobody else waits."""
    broken = token.generate("broken", KeySpec.P_256)
    before = set(token_folder(tmp_path).glob("*.object"))
    good = token.generate("good", KeySpec.P_256)
    assert isinstance(broken, ec.EllipticCurvePrivateKey)
    assert isinstance(good, ec.EllipticCurvePrivateKey)
    for path in before - {token_folder(tmp_path) / "token.object"}:
        if path.stat().st_mtime_ns == max(item.stat().st_mtime_ns for item in before):
            path.write_bytes(b"")
    connection = token._connection
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(Unavailable, match="failed twice"):
            broken.sign(b"m", ECDSA)
        check_signature(token, "good")
    assert token._connection is connection
    assert time.monotonic() - started < 5


def test_a_hanging_call_does_not_hold_up_everybody(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one call hangs in the module, others give up in bounded time; when it returns, all is well again."""
    monkeypatch.setattr(connection_module, "_WAIT", 1.0)
    token.probe()
    assert token._connection is not None
    inside, release = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        inside.set()
        release.wait(60)

    hanging = threading.Thread(target=lambda: token._run(hang))
    hanging.start()
    assert inside.wait(30)
    for bound in (10, 0.9, 0.9):  # those after the first do not wait as it did
        started = time.monotonic()
        with pytest.raises(Unavailable, match="busy"):
            token.probe()
        assert time.monotonic() - started < bound
    release.set()
    hanging.join()
    token.probe()


def test_a_wrong_pin_is_tried_once(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens count wrong PINs and lock themselves; the same wrong one must not be sent at every request."""
    pin = config.pin_file.read_text(encoding="utf-8")
    config.pin_file.write_text("wrong-pin\n", encoding="utf-8")
    logins = 0
    log_in = Token._log_in

    def count(self: Token, pin: str) -> connection_module.Connection:
        nonlocal logins
        logins += 1
        return log_in(self, pin)

    monkeypatch.setattr(Token, "_log_in", count)
    monkeypatch.setattr("hsm.token._BACKOFF", 0)
    token = Token(config)
    for _ in range(5):
        with pytest.raises(Unavailable, match=r"refuse[sd] the PIN") as caught:
            token.probe()
        assert "wrong-pin" not in str(caught.value)
    assert logins == 1
    config.pin_file.write_text(pin, encoding="utf-8")
    token.probe()
    token.close()


def test_a_token_that_is_not_there_costs_little_time(config: HsmConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call looks for it, those after it are told at once, and it is found when it is back."""
    looks = 0
    log_in = Token._log_in

    def count(self: Token, pin: str) -> connection_module.Connection:
        nonlocal looks
        looks += 1
        return log_in(self, pin)

    monkeypatch.setattr(Token, "_log_in", count)
    monkeypatch.setattr("hsm.token._BACKOFF", 30)
    (tmp_path / "hsm").rename(tmp_path / "away")
    token = Token(config)
    with pytest.raises(Unavailable) as caught:
        token.probe()
    assert (caught.value.part, caught.value.retry_after) == ("hsm", config.retry_after)
    first = looks
    for _ in range(100):
        with pytest.raises(Unavailable):
            token.probe()
    assert looks == first
    (tmp_path / "away").rename(tmp_path / "hsm")
    token._try_again_at = time.monotonic()
    token.probe()
    token.close()


def test_a_module_that_is_not_there_is_unavailable(config: HsmConfig) -> None:
    token = Token(HsmConfig(module=Path("/nonexistent/module.so"), pin_file=config.pin_file))
    with pytest.raises(Unavailable, match="cannot be opened"):
        token.probe()
    token.close()


def test_softhsm_with_several_sessions_is_refused(config: HsmConfig) -> None:
    with pytest.raises(Rejected) as caught:
        Token(HsmConfig(pin_file=config.pin_file, environment=config.environment, sessions=2))
    assert caught.value.violations[0].field == "hsm.sessions"


def test_a_module_error_names_no_pin(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise pkcs11.DeviceRemoved

    monkeypatch.setattr("hsm.token.open_connection", fail)
    monkeypatch.setattr("hsm.token._LOGIN_PATIENCE", 0)
    with pytest.raises(Unavailable, match="DeviceRemoved") as caught:
        Token(config).probe()
    assert config.pin_file.read_text(encoding="utf-8").strip() not in str(caught.value)


def test_init_is_done_once(config: HsmConfig, tmp_path: Path) -> None:
    assert not init_softhsm(config, so_pin_file=tmp_path / "secrets" / "so-pin")
    assert [path.name for path in (tmp_path / "hsm" / "tokens").iterdir()] == [token_folder(tmp_path).name]


def test_pin_files_are_for_their_owner_only(config: HsmConfig, tmp_path: Path) -> None:
    for path in (config.pin_file, tmp_path / "secrets" / "so-pin"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_text(encoding="utf-8").strip()) >= 32
    assert (tmp_path / "hsm").stat().st_mode & 0o777 == 0o700
