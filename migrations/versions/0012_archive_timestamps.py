"""Levels up to B-LTA: what a signature reached, which documents need archive timestamps, and other authorities' CRLs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.add_column("signature", sa.Column("reached", sa.String(8)))
    op.add_column("signature", sa.Column("why_lower", sa.Text()))
    op.create_table(
        "archived_document",
        sa.Column("id", Record, primary_key=True, autoincrement=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("due", Moment(), nullable=False),
        sa.Column("until", Moment(), nullable=False),
        sa.Column("successor", sa.String(64)),
        sa.UniqueConstraint("digest", name="uq_archived_document_digest"),
    )
    op.create_index("ix_archived_document_client", "archived_document", ["client"])
    op.create_index("ix_archived_document_due", "archived_document", ["due"])
    op.create_table(
        "foreign_crl",
        sa.Column("id", Record, primary_key=True),
        sa.Column("issuer_sha256", sa.String(64), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("this_update", Moment(), nullable=False),
        sa.Column("next_update", Moment(), nullable=False),
        sa.Column("imported_at", Moment(), nullable=False),
        sa.UniqueConstraint("issuer_sha256", name="uq_foreign_crl_issuer_sha256"),
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("foreign_crl")
    op.drop_table("archived_document")
    with op.batch_alter_table("signature") as table:
        table.drop_column("why_lower")
        table.drop_column("reached")
