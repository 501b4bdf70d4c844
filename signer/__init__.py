"""Signing PDF and XML with keys that stay in the token: prepare, sign, finish."""
