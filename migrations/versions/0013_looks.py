"""Looks of signatures: agencies' own, and the pictures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "agency_look",
        sa.Column("id", Record, primary_key=True),
        _reference("agency_look", "agency"),
        sa.Column("name", sa.String(20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.UniqueConstraint("agency_id", "name", "version", name="uq_agency_look_agency_id"),
    )
    op.create_table(
        "signature_picture",
        sa.Column("id", Record, primary_key=True),
        _reference("signature_picture", "agency", nullable=True),
        _reference("signature_picture", "subscriber", nullable=True),
        sa.Column("source", sa.String(10), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("png", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("width", sa.Float(), nullable=False),
        sa.UniqueConstraint("agency_id", "source", "version", name="uq_signature_picture_agency_id"),
        sa.UniqueConstraint("subscriber_id", "source", "version", name="uq_signature_picture_subscriber_id"),
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("signature_picture")
    op.drop_table("agency_look")


def _reference(table: str, target: str, *, nullable: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey(f"{target}.id", name=f"fk_{table}_{target}_id_{target}")
    return sa.Column(f"{target}_id", Record, key, nullable=nullable)
