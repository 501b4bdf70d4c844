"""Certificates and their status: authorities, profiles, issuance, revocation, CRL, OCSP, trust material."""
