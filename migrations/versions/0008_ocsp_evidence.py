"""OCSP evidence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.drop_index("ix_ocsp_record_at", table_name="ocsp_record")  # nothing asks by moment: one index on each answer is enough
    op.create_index("ix_ocsp_record_serial", "ocsp_record", ["serial", "id"])
    op.create_table(
        "ocsp_evidence",
        sa.Column("id", Record, nullable=False),
        sa.Column("certificate_id", Record, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("next_update", Moment(), nullable=False),
        sa.Column("status_version", sa.BigInteger(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificate.id"], name="fk_ocsp_evidence_certificate_id_certificate"),
        sa.PrimaryKeyConstraint("id", name="pk_ocsp_evidence"),
    )
    op.create_index("ix_ocsp_evidence_certificate", "ocsp_evidence", ["certificate_id", "id"])


def downgrade() -> None:
    """Take this revision back; the OCSP responses that were kept as proof are lost with it."""
    op.drop_table("ocsp_evidence")
    op.drop_index("ix_ocsp_record_serial", table_name="ocsp_record")
    op.create_index("ix_ocsp_record_at", "ocsp_record", ["at"])
