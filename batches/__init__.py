"""Signing in batches: one call with many documents or digests, done item by item by all workers at once."""
