"""The sentences findings are made of, in both languages, by code.

A format's reader may bring its own sentences with :func:`say`; those that several need are here.
"""

from __future__ import annotations

from verifier.verdict import Finding, Severity, Text


def say(severity: Severity, code: str, vi: str, en: str) -> Finding:
    """A finding of this severity; ``vi`` and ``en`` are whole sentences."""
    return Finding(code=code, severity=severity, text=Text(vi=vi, en=en))


def error(code: str, vi: str, en: str) -> Finding:
    """A finding that stands in the way of TOTAL-PASSED."""
    return say(Severity.ERROR, code, vi, en)


def warning(code: str, vi: str, en: str) -> Finding:
    """A finding worth knowing."""
    return say(Severity.WARNING, code, vi, en)


def info(code: str, vi: str, en: str) -> Finding:
    """A finding that only informs."""
    return say(Severity.INFO, code, vi, en)
