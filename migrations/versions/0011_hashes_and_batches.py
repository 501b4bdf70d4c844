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


def downgrade() -> None:
    """Take this revision back."""
    with op.batch_alter_table("signature") as table:
        table.alter_column("digest", existing_type=sa.String(128), type_=sa.String(64), existing_nullable=False)
