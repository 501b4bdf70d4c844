"""Numbers that tell a subscriber from another of the same name, as they stand in UID of a certificate's name. No effects here."""

from __future__ import annotations

import re
from typing import Final

from core.errors import Rejected

_WEIGHTS: Final = (31, 29, 23, 19, 17, 13, 7, 5, 3)
_KINDS: Final = {
    "MST": (re.compile(r"[0-9]{10}(-[0-9]{3})?"), "a tax code has 10 digits, or 10 and a branch number of 3 (MST:0123456789-001)"),
    "CCCD": (re.compile(r"[0-9]{12}"), "a citizen's identity number has 12 digits (CCCD:001099000001)"),
    "CMND": (re.compile(r"[0-9]{9}|[0-9]{12}"), "the number of an old identity card has 9 or 12 digits (CMND:123456789)"),
}


def check_identity_number(text: str) -> str:
    """``MST:``, ``CCCD:`` or ``CMND:`` and a number of that form; returns it, raises Rejected saying what is wrong."""
    kind, colon, number = text.partition(":")
    if not colon or kind not in _KINDS:
        raise Rejected("uid", "begins with MST: (tax code), CCCD: (citizen's identity number) or CMND: (old identity card)")
    form, says = _KINDS[kind]
    if not form.fullmatch(number):
        raise Rejected("uid", says)
    if kind == "MST" and not _tax_code_holds(number[:10]):
        raise Rejected("uid", f"the tax code {number} has a wrong check digit: one of its digits is mistyped")
    return text


def _tax_code_holds(digits: str) -> bool:
    """The tenth digit of a tax code is 10 minus the weighted sum of the others modulo 11."""
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, digits, strict=False))
    return 10 - total % 11 == int(digits[9])
