"""status."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_REFUSE = "the status history is append-only"


def upgrade() -> None:
    """Apply this revision."""
    op.add_column("authority", sa.Column("responder_renewal_at", Moment(), nullable=True))
    op.add_column("certificate", sa.Column("invalidity_date", Moment(), nullable=True))
    op.add_column("certificate", sa.Column("crl_partition", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("crl") as batch:
        batch.add_column(sa.Column("partition", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("delta", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column("base_number", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("published_at", Moment(), nullable=True))
    op.execute("UPDATE crl SET published_at = this_update WHERE state = 'issued'")
    with op.batch_alter_table("crl") as batch:
        batch.alter_column("partition", existing_type=sa.Integer(), server_default=None)
        batch.alter_column("delta", existing_type=sa.Boolean(), server_default=None)
        batch.drop_constraint("uq_crl_authority_id", type_="unique")
        batch.create_unique_constraint("uq_crl_authority_id", ["authority_id", "number", "delta"])
        batch.create_index("ix_crl_newest", ["authority_id", "partition", "delta", "state", "number"])
    op.create_table(
        "status_event",
        sa.Column("id", Record, nullable=False),
        sa.Column("certificate_id", Record, nullable=False),
        sa.Column("authority_id", Record, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("act", sa.String(length=10), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("since", Moment(), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("ground", sa.String(length=40), nullable=True),
        sa.Column("invalidity_date", Moment(), nullable=True),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificate.id"], name="fk_status_event_certificate_id_certificate"),
        sa.ForeignKeyConstraint(["authority_id"], ["authority.id"], name="fk_status_event_authority_id_authority"),
        sa.PrimaryKeyConstraint("id", name="pk_status_event"),
    )
    op.create_index("ix_status_event_certificate_id", "status_event", ["certificate_id"])
    op.create_index("ix_status_event_version", "status_event", ["authority_id", "version"])
    _carry_over_revocations()
    _make_events_append_only()
    op.create_table(
        "status_receipt",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("event_id", Record, nullable=False),
        sa.Column("made_at", Moment(), nullable=False),
        sa.Column("crl_number", sa.BigInteger(), nullable=True),
        sa.Column("ocsp_seen_at", Moment(), nullable=True),
        sa.Column("crl_seen_at", Moment(), nullable=True),
        sa.Column("watched_until", Moment(), nullable=False),
        sa.Column("problem", sa.String(length=300), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["status_event.id"], name="fk_status_receipt_event_id_status_event"),
        sa.PrimaryKeyConstraint("id", name="pk_status_receipt"),
        sa.UniqueConstraint("event_id", name="uq_status_receipt_event_id"),
    )
    op.create_index("ix_status_receipt_watched_until", "status_receipt", ["watched_until"])


def _carry_over_revocations() -> None:
    """What was revoked before there was a history begins it. Version 0: it is on every CRL since, so no delta needs it."""
    op.execute(
        "INSERT INTO status_event (certificate_id, authority_id, version, act, at, since, reason, actor) "
        "SELECT id, authority_id, 0, 'revoke', revoked_at, revoked_at, revocation_reason, 'condau' "
        "FROM certificate WHERE revoked_at IS NOT NULL ORDER BY id"
    )


def _make_events_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            name = f"status_event_{act.lower()}"
            op.execute(f"CREATE TRIGGER {name} BEFORE {act} ON status_event BEGIN SELECT RAISE(ABORT, '{_REFUSE}'); END")
        return
    op.execute(
        f"CREATE FUNCTION refuse_status_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{_REFUSE}'; END $$"
    )
    for act, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        name = f"status_event_{act.split(maxsplit=1)[0].lower()}"
        op.execute(f"CREATE TRIGGER {name} BEFORE {act} ON status_event FOR EACH {each} EXECUTE FUNCTION refuse_status_change()")


def downgrade() -> None:
    """Take this revision back; the history of suspensions, delta and partitioned CRLs are lost with it."""
    op.drop_table("status_receipt")
    op.drop_table("status_event")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION refuse_status_change()")
    op.execute("DELETE FROM crl WHERE delta OR partition <> 0")
    with op.batch_alter_table("crl") as batch:
        batch.drop_index("ix_crl_newest")
        batch.drop_constraint("uq_crl_authority_id", type_="unique")
        batch.create_unique_constraint("uq_crl_authority_id", ["authority_id", "number"])
        for column in ("published_at", "base_number", "delta", "partition"):
            batch.drop_column(column)
    op.drop_column("authority", "responder_renewal_at")
    op.drop_column("certificate", "crl_partition")
    op.drop_column("certificate", "invalidity_date")
