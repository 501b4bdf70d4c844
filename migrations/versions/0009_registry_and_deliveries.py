"""Registry and deliveries: what the inventory walks, deliveries that are tried again and pruned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Record

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    _upgrade_inventory()
    op.add_column("agency_version", sa.Column("certificate_name", sa.String(length=64), nullable=True))
    op.create_index("ix_outbox_event_at", "outbox_event", ["at", "id"])
    op.add_column("delivery", sa.Column("forgiven", sa.Integer(), server_default="0", nullable=False))


def _upgrade_inventory() -> None:
    op.drop_index("ix_certificate_state", "certificate")
    op.create_index("ix_certificate_of_state", "certificate", ["state", "id"])
    op.create_index("ix_certificate_of_agency_by_end", "certificate", ["agency_id", "not_after", "id"])
    op.create_index("ix_certificate_of_profile_by_end", "certificate", ["profile", "not_after", "id"])
    known = sa.text("revocation_reason IS NOT NULL")
    op.create_index(
        "ix_certificate_revoked_of_agency", "certificate", ["agency_id", "id"], sqlite_where=known, postgresql_where=known
    )
    op.create_table(
        "holder_agency",
        sa.Column("agency_id", Record, autoincrement=False, nullable=False),
        sa.Column("subscriber_id", Record, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name="fk_holder_agency_agency_id_agency"),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name="fk_holder_agency_subscriber_id_subscriber"),
        sa.PrimaryKeyConstraint("agency_id", "subscriber_id", name="pk_holder_agency"),
    )
    op.execute(
        "INSERT INTO holder_agency (agency_id, subscriber_id) SELECT DISTINCT agency_id, subscriber_id FROM certificate "
        "WHERE agency_id IS NOT NULL AND subscriber_id IS NOT NULL"
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("delivery", "forgiven")
    op.drop_column("agency_version", "certificate_name")
    op.drop_index("ix_outbox_event_at", "outbox_event")
    op.drop_table("holder_agency")
    op.drop_index("ix_certificate_revoked_of_agency", "certificate")
    op.drop_index("ix_certificate_of_profile_by_end", "certificate")
    op.drop_index("ix_certificate_of_agency_by_end", "certificate")
    op.drop_index("ix_certificate_of_state", "certificate")
    op.create_index("ix_certificate_state", "certificate", ["state"])
