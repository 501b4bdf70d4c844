"""A SoftHSM token of its own for a test, and programs that use it from other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from core.settings import HsmConfig
from hsm.softhsm import init_softhsm

ROOT = Path(__file__).parents[2]


def make_instance(folder: Path) -> HsmConfig:
    """A fresh token in ``folder`` and the configuration that opens it."""
    config = instance_config(folder)
    assert init_softhsm(config, so_pin_file=folder / "secrets" / "so-pin")
    return config


def instance_config(folder: Path) -> HsmConfig:
    """The configuration of the token in ``folder``."""
    conf = folder / "hsm" / "softhsm2.conf"
    return HsmConfig(pin_file=folder / "secrets" / "user-pin", environment={"SOFTHSM2_CONF": str(conf)})


def token_folder(folder: Path) -> Path:
    """Where SoftHSM keeps the token's files."""
    (found,) = (folder / "hsm" / "tokens").iterdir()
    return found


def start_program(code: str, folder: Path) -> subprocess.Popen[str]:
    """Run ``code`` in another Python process that knows ``config``, ``Token`` and ``KeySpec``; its output is piped."""
    head = (
        "import sys, os, threading, time\n"
        "from pathlib import Path\n"
        "from tests.hsm.instance import instance_config\n"
        "from hsm.keys import KeySpec\n"
        "from hsm.token import Token\n"
        "config = instance_config(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", head + code, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_program(code: str, folder: Path) -> str:
    """Run ``code`` to its end, which must be a clean exit; returns what it printed."""
    with start_program(code, folder) as program:
        output, _ = program.communicate(timeout=60)
    assert program.returncode == 0, f"exit {program.returncode}: {output}"
    return output


def pkcs11_tool(config: HsmConfig, *arguments: str) -> str:
    """What OpenSC's pkcs11-tool prints, logged in to the token."""
    pin = config.pin_file.read_text(encoding="utf-8").strip()
    command = [
        "pkcs11-tool",
        "--module",
        str(config.module),
        "--token-label",
        config.token_label,
        "--login",
        "--pin",
        "env:TEST_PIN",
    ]
    environment = {**os.environ, **config.environment, "TEST_PIN": pin}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout
