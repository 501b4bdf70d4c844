"""What every module of commands needs: who is typing, and the services of the instance in ``CONDAU_HOME``."""

from __future__ import annotations

import os

from audit.log import Actor
from bootstrap import Services, build
from core.config import home_from_environment, load_config


def operator() -> Actor:
    """The person at the keyboard, as the audit log names them."""
    return Actor(f"os-user-{os.getuid()}", "operator")


def open_services() -> Services:
    """The services; ``with`` closes them, and so does ``close``."""
    return build(load_config(home_from_environment()))
