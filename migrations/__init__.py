"""Alembic migrations; at the top because they see every room's tables."""
