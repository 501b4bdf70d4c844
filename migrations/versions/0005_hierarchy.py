"""hierarchy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    # plain ALTER TABLE: on SQLite a batch would rebuild the table, which the rows that refer to it forbid
    op.add_column("authority", sa.Column("alias", sa.String(length=63), nullable=False, server_default=""))
    op.add_column("authority", sa.Column("generation", sa.Integer(), nullable=False, server_default="1"))
    op.execute("UPDATE authority SET alias = name")
    op.create_index("ix_authority_alias", "authority", ["alias", "generation"], unique=True)
    _create_anchors()
    _create_external_certificates()
    op.create_table(
        "backup",
        sa.Column("id", Record, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_backup"),
    )


def _create_anchors() -> None:
    op.create_table(
        "trust_anchor",
        sa.Column("id", Record, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("domain", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("installed_at", Moment(), nullable=False),
        sa.Column("removed_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_trust_anchor"),
        sa.UniqueConstraint("sha256", name="uq_trust_anchor_sha256"),
    )


def _create_external_certificates() -> None:
    op.create_table(
        "external_certificate",
        sa.Column("id", Record, nullable=False),
        sa.Column("subscriber_id", Record, nullable=False),
        sa.Column("key_label", sa.String(length=128), nullable=False),
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("requested_at", Moment(), nullable=False),
        sa.Column("request_der", sa.LargeBinary(), nullable=True),
        sa.Column("domain", sa.String(length=32), nullable=True),
        sa.Column("serial", sa.String(length=40), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("der", sa.LargeBinary(), nullable=True),
        sa.Column("chain_pem", sa.Text(), nullable=True),
        sa.Column("not_before", Moment(), nullable=True),
        sa.Column("not_after", Moment(), nullable=True),
        sa.Column("imported_at", Moment(), nullable=True),
        sa.Column("withdrawn_at", Moment(), nullable=True),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name="fk_external_certificate_subscriber_id_subscriber"),
        sa.PrimaryKeyConstraint("id", name="pk_external_certificate"),
        sa.UniqueConstraint("sha256", name="uq_external_certificate_sha256"),
    )
    for column in ("key_label", "serial", "subscriber_id"):
        op.create_index(f"ix_external_certificate_{column}", "external_certificate", [column])


def downgrade() -> None:
    """Take this revision back."""
    for table in ("backup", "external_certificate", "trust_anchor"):
        op.drop_table(table)
    op.drop_index("ix_authority_alias", "authority")
    op.drop_column("authority", "generation")
    op.drop_column("authority", "alias")
