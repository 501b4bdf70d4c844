"""Digests that are signed without their documents, and batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    with op.batch_alter_table("signature") as table:
        table.alter_column("digest", existing_type=sa.String(64), type_=sa.String(128), existing_nullable=False)
    op.create_table(
        "batch",
        sa.Column("id", Record, primary_key=True, autoincrement=True),
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("key", sa.String(255)),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("level", sa.String(8), nullable=False),
        sa.Column("activation", sa.String(64)),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("folder", sa.String(32), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("total", "left", "done", "failed")),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("finished_at", Moment()),
        sa.UniqueConstraint("client", "key", name="uq_batch_client"),
    )
    op.create_index("ix_batch_state", "batch", ["state"])
    op.create_table(
        "batch_item",
        sa.Column("batch_id", Record, sa.ForeignKey("batch.id", name="fk_batch_item_batch_id_batch")),
        sa.Column("number", sa.Integer(), autoincrement=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(128), nullable=False),
        sa.Column("size", sa.BigInteger()),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempt", sa.String(32)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", Moment()),
        sa.Column("level", sa.String(8)),
        sa.Column("problem", sa.JSON()),
        sa.Column("finished_at", Moment()),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_batch_item"),
    )
    op.create_index("ix_batch_item_state", "batch_item", ["state", "number", "batch_id"])


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("batch_item")
    op.drop_table("batch")
    with op.batch_alter_table("signature") as table:
        table.alter_column("digest", existing_type=sa.String(128), type_=sa.String(64), existing_nullable=False)
