"""Agencies' codes in both orders, and the numbers in UID."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Rejected
from registry.agency_codes import parse_agency_code
from registry.identity_numbers import check_identity_number

LEVEL = st.from_regex(r"[1-9][0-9]{1,2}", fullmatch=True)
TOP = st.from_regex(r"[A-Y][0-9]{2}", fullmatch=True)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("H12", "H12"),
        ("H12.34", "H12.34"),
        ("000.00.00.H12", "H12"),
        ("000.00.34.H12", "H12.34"),
        ("000.00.11.H53", "H53.11"),
        ("28.22.H17", "H17.22.28"),
        ("000.00.00.A80", "A80"),
        ("001.00.11.H53", "H53.11.00.001"),
        ("0101234567", "0101234567"),
        ("Z01.02", "Z01.02"),
    ],
)
def test_both_orders_are_one_code_and_the_given_one_is_kept(given: str, key: str) -> None:
    code = parse_agency_code(given)
    assert (code.given, code.key) == (given, key)


@given(top=TOP, levels=st.lists(LEVEL, max_size=3))
def test_whatever_is_written_backwards_means_the_same(top: str, levels: list[str]) -> None:
    forwards = ".".join([top, *levels])
    backwards = ".".join(["000"] * (3 - len(levels)) + levels[::-1] + [top])
    assert parse_agency_code(forwards).key == parse_agency_code(backwards).key == forwards


@pytest.mark.parametrize("text", ["", ".", "H12.", "h12", "H12..1", "H12 ", "Đ12", "H12/1", "H" * 36, "H12\n", "١٢"])
def test_what_is_no_code_is_rejected(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_agency_code(text)
    assert caught.value.violations[0].field == "code"


@pytest.mark.parametrize(
    "text", ["MST:0100000003", "MST:0100000003-001", "CCCD:001099000001", "CMND:123456789", "CMND:012345678901"]
)
def test_numbers_of_the_right_form_pass(text: str) -> None:
    assert check_identity_number(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("MST:0100000004", "check digit"),
        ("MST:010000000", "10 digits"),
        ("MST:0100000003-01", "10 digits"),
        ("MST:0100000003-001 ", "10 digits"),
        ("CCCD:00109900000", "12 digits"),
        ("CCCD:٠٠١٠٩٩٠٠٠٠٠١", "12 digits"),
        ("CMND:1234567890", "9 or 12"),
        ("0100000003", "begins with"),
        ("PNO:1", "begins with"),
        ("", "begins with"),
    ],
)
def test_numbers_of_another_form_are_rejected(text: str, says: str) -> None:
    with pytest.raises(Rejected, match=says):
        check_identity_number(text)


@given(st.integers(0, 999_999_999), st.integers(0, 8), st.integers(1, 9))
def test_a_mistyped_digit_of_a_tax_code_is_noticed(number: int, place: int, by: int) -> None:
    stem = f"{number:09d}"
    right = [code for code in (f"{stem}{last}" for last in range(10)) if _holds(code)]
    assert len(right) <= 1
    for code in right:
        wrong = code[:place] + str((int(code[place]) + by) % 10) + code[place + 1 :]
        assert not _holds(wrong)


def _holds(code: str) -> bool:
    try:
        check_identity_number(f"MST:{code}")
    except Rejected:
        return False
    return True
