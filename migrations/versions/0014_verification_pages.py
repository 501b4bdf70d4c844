"""The pages that QR codes lead to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Record

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    signature = sa.ForeignKey("signature.id", name="fk_verification_page_signature_id_signature")
    op.create_table(
        "verification_page",
        sa.Column("id", Record, primary_key=True),
        sa.Column("code", sa.String(20), nullable=False),
        sa.Column("signature_id", Record, signature, nullable=False),
        sa.Column("number", sa.String(200), nullable=True),
        sa.Column("issued_on", sa.Date(), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("code", name="uq_verification_page_code"),
        sa.UniqueConstraint("signature_id", name="uq_verification_page_signature_id"),
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("verification_page")
