"""Approvals, jobs, stored answers; a certificate's predecessor and what it was made for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    with op.batch_alter_table("certificate") as table:
        table.add_column(sa.Column("origin", sa.String(80), nullable=True))
        table.add_column(sa.Column("predecessor_id", Record, nullable=True))
        table.create_foreign_key("fk_certificate_predecessor_id_certificate", "certificate", ["predecessor_id"], ["id"])
        table.create_index("ix_certificate_predecessor_id", ["predecessor_id"])
    standing = sa.text("state != 'abandoned'")
    op.create_index(
        "ix_certificate_origin", "certificate", ["origin"], unique=True, sqlite_where=standing, postgresql_where=standing
    )
    _create_approvals()
    _create_jobs()
    op.create_table(
        "stored_answer",
        sa.Column("id", Record, primary_key=True),
        sa.Column("caller", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("attempt", sa.String(32), nullable=False),
        sa.Column("begun_at", Moment(), nullable=False),
        sa.Column("status", sa.String(80)),
        sa.Column("content_type", sa.String(200)),
        sa.Column("location", sa.String(400)),
        sa.Column("body", sa.LargeBinary()),
        sa.UniqueConstraint("caller", "key", name="uq_stored_answer_caller"),
    )
    op.create_index("ix_stored_answer_begun_at", "stored_answer", ["begun_at"])


def downgrade() -> None:
    """Take this revision back."""
    for name in ("stored_answer", "job_row", "job", "approval_vote", "approval"):
        op.drop_table(name)
    op.drop_index("ix_certificate_origin", "certificate")
    with op.batch_alter_table("certificate") as table:
        table.drop_index("ix_certificate_predecessor_id")
        table.drop_constraint("fk_certificate_predecessor_id_certificate", type_="foreignkey")
        table.drop_column("predecessor_id")
        table.drop_column("origin")


def _create_approvals() -> None:
    op.create_table(
        "approval",
        sa.Column("id", Record, primary_key=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.Column("requested_by", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("origin", sa.String(80)),
        sa.Column("requested_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("decided_at", Moment()),
        sa.Column("executing_at", Moment()),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("result", sa.JSON()),
        sa.UniqueConstraint("origin", name="uq_approval_origin"),
    )
    op.create_index("ix_approval_state", "approval", ["state"])
    op.create_table(
        "approval_vote",
        sa.Column("approval_id", Record, sa.ForeignKey("approval.id", name="fk_approval_vote_approval_id_approval")),
        sa.Column("name", sa.String(200)),
        sa.Column("at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("approval_id", "name", name="pk_approval_vote"),
    )


def _create_jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", Record, primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("origin", sa.String(80)),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("rows_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("started_at", Moment()),
        sa.Column("finished_at", Moment()),
        sa.Column("lease_owner", sa.String(64)),
        sa.Column("lease_until", Moment()),
        sa.UniqueConstraint("origin", name="uq_job_origin"),
    )
    op.create_index("ix_job_state", "job", ["state"])
    op.create_table(
        "job_row",
        sa.Column("job_id", Record, sa.ForeignKey("job.id", name="fk_job_row_job_id_job")),
        sa.Column("number", sa.Integer(), autoincrement=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("serial", sa.String(40)),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("milliseconds", sa.Integer()),
        sa.Column("finished_at", Moment()),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_job_row"),
    )
    op.create_index("ix_job_row_state", "job_row", ["job_id", "state", "number"])
    op.create_index("ix_job_row_finished_at", "job_row", ["finished_at"])
