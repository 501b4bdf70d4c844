"""Identifier codes of agencies, in both written orders (Quyết định 20/2020/QĐ-TTg; QCVN 102:2016/BTTTT). No effects here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from core.errors import Rejected

MAX_LENGTH: Final = 35
_GROUPS: Final = re.compile(r"[0-9A-Z]+(\.[0-9A-Z]+)*")
_FIRST_LEVEL: Final = re.compile(r"[A-Z][0-9]{2}")
"""What a group of the first level looks like: a letter for the kind of body, two digits for the body (``H12``)."""


@dataclass(frozen=True, slots=True)
class AgencyCode:
    """One agency's identifier code: as it was given, and in the one form in which codes are compared."""

    given: str
    key: str
    """The first level first, without the empty levels below the last: ``H53.11`` for ``000.00.11.H53`` and for ``H53.11``."""


def parse_agency_code(text: str) -> AgencyCode:
    """Read a code in either order; raises Rejected for what is none.

    The first level stands first since 2020 and stood last before, with the levels that are not used filled up with zeros. A code
    whose last group looks like a first level and whose first group does not is in the old order. Only the zeros of unused
    lower levels are dropped: one between two used levels is a place in the tree and stays.
    """
    groups = text.split(".")
    if len(text) > MAX_LENGTH or not _GROUPS.fullmatch(text):
        raise Rejected(
            "code", f"an agency's code has at most {MAX_LENGTH} characters of 0-9, A-Z and full stops: H12.34 or 000.00.34.H12"
        )
    if _FIRST_LEVEL.fullmatch(groups[-1]) and not _FIRST_LEVEL.fullmatch(groups[0]):
        groups.reverse()
    while len(groups) > 1 and not groups[-1].strip("0"):
        groups.pop()
    return AgencyCode(text, ".".join(groups))
