"""The time-stamping authority: requests, timestamps and the record of them (RFC 3161)."""
