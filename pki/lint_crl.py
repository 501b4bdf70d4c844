"""Lint of a CRL before the authority's key is used: our own rules on every entry, pkilint on one of each kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final

from pki.crl_der import REMOVED, CrlDraft, Entry, sign_crl
from pki.issuer import Urls, throwaway_key
from pki.lint import Finding, lint_crl, withhold
from pki.profile import PublicKey

_SAMPLE: Final = 50
"""Of a longer CRL pkilint sees the first entries and one of each other kind: all are made by the same code, at 0.5 ms each."""
_SERIAL_BITS: Final = 159


def check_crl_draft(draft: CrlDraft, urls: Urls) -> None:
    """Lint what is about to be signed; raises Unavailable with every finding, so that the key is never asked."""
    issuer_key: PublicKey = draft.certificate.public_key()  # type: ignore[assignment]  # KeySpec has only these kinds
    sample = dataclasses.replace(draft, entries=sample_entries(draft.entries))
    withhold("CRL", list(break_crl_rules(draft)))
    withhold("CRL", lint_crl(sign_crl(sample, throwaway_key(issuer_key), urls)))


def sample_entries(entries: Sequence[Entry]) -> list[Entry]:
    """The first entries, and the first of each kind (reason, with an invalidity date or without) that is not among them."""
    kinds = {(entry.reason, entry.invalidity_date is None): entry for entry in reversed(entries)}
    chosen = [*entries[:_SAMPLE], *kinds.values()]
    return list({entry.serial: entry for entry in chosen}.values())


def break_crl_rules(draft: CrlDraft) -> Iterator[Finding]:
    """Each rule of ours (:data:`pki.lint_rules.CRL_RULES`) that the whole CRL breaks."""
    if not draft.this_update < draft.next_update:
        yield Finding("condau.crl_dates", f"{draft.this_update.isoformat()} to {draft.next_update.isoformat()}")
    if draft.number < 1 or (draft.base_number is not None and not 1 <= draft.base_number <= draft.number):
        yield Finding("condau.crl_numbers", f"number {draft.number}, base {draft.base_number}")
    serials = {entry.serial for entry in draft.entries}
    if len(serials) != len(draft.entries):
        yield Finding("condau.crl_serials", f"{len(draft.entries) - len(serials)} serial numbers stand twice")
    if any(not 0 < int(serial, 16) < 1 << _SERIAL_BITS for serial in serials):
        yield Finding("condau.crl_serials", "a serial number is not positive or too long")
    if draft.base_number is None and any(entry.reason == REMOVED for entry in draft.entries):
        yield Finding("condau.crl_reasons", f"{REMOVED} stands in a complete CRL")
