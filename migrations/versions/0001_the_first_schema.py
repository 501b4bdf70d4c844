"""the first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "agency",
    "api_client",
    "audit_entry",
    "authority",
    "signature",
    "subject_key",
    "timestamp",
    "crl",
    "ocsp_record",
    "subscriber",
    "certificate",
    "signing_grant",
)
_REFUSE = "the audit log is append-only"


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "agency",
        sa.Column("id", Record, nullable=False),
        sa.Column("code", sa.String(length=35), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("locality", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agency"),
        sa.UniqueConstraint("code", name="uq_agency_code"),
    )
    op.create_table(
        "api_client",
        sa.Column("id", Record, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("disabled_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_client"),
        sa.UniqueConstraint("key_sha256", name="uq_api_client_key_sha256"),
        sa.UniqueConstraint("name", name="uq_api_client_name"),
    )
    op.create_table(
        "audit_entry",
        sa.Column("id", Record, autoincrement=True, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=400), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entry"),
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["at"])
    op.create_index("ix_audit_entry_request_id", "audit_entry", ["request_id"])
    op.create_index("ix_audit_entry_subject", "audit_entry", ["subject"])

    op.create_table(
        "authority",
        sa.Column("id", Record, nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("key_label", sa.String(length=128), nullable=False),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=True),
        sa.Column("parent_id", Record, nullable=True),
        sa.Column("crl_number", sa.BigInteger(), nullable=False),
        sa.Column("status_version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["authority.id"], name="fk_authority_parent_id_authority"),
        sa.PrimaryKeyConstraint("id", name="pk_authority"),
        sa.UniqueConstraint("key_label", name="uq_authority_key_label"),
        sa.UniqueConstraint("name", name="uq_authority_name"),
    )
    op.create_table(
        "signature",
        sa.Column("id", Record, autoincrement=True, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("key_label", sa.String(length=200), nullable=False),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_signature"),
    )
    op.create_index("ix_signature_at", "signature", ["at"])
    op.create_index("ix_signature_client", "signature", ["client"])
    op.create_index("ix_signature_serial", "signature", ["serial"])
    op.create_index("ix_signature_state", "signature", ["state"])

    op.create_table(
        "subject_key",
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("blocked_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("spki_sha256", name="pk_subject_key"),
    )
    op.create_table(
        "timestamp",
        sa.Column("id", Record, nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("gen_time", Moment(), nullable=False),
        sa.Column("hash_algorithm", sa.String(length=10), nullable=False),
        sa.Column("imprint", sa.String(length=128), nullable=False),
        sa.Column("policy", sa.String(length=200), nullable=False),
        sa.Column("key_label", sa.String(length=128), nullable=False),
        sa.Column("certificate_serial", sa.String(length=40), nullable=False),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_timestamp"),
        sa.UniqueConstraint("serial", name="uq_timestamp_serial"),
    )
    op.create_index("ix_timestamp_certificate_serial", "timestamp", ["certificate_serial"])
    op.create_index("ix_timestamp_gen_time", "timestamp", ["gen_time"])
    op.create_index("ix_timestamp_imprint", "timestamp", ["imprint"])

    op.create_table(
        "crl",
        sa.Column("id", Record, nullable=False),
        sa.Column("authority_id", Record, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("status_version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=True),
        sa.Column("this_update", Moment(), nullable=False),
        sa.Column("next_update", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["authority_id"], ["authority.id"], name="fk_crl_authority_id_authority"),
        sa.PrimaryKeyConstraint("id", name="pk_crl"),
        sa.UniqueConstraint("authority_id", "number", name="uq_crl_authority_id"),
    )
    op.create_table(
        "ocsp_record",
        sa.Column("id", Record, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("authority_id", Record, nullable=False),
        sa.Column("serial", sa.String(length=80), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.ForeignKeyConstraint(["authority_id"], ["authority.id"], name="fk_ocsp_record_authority_id_authority"),
        sa.PrimaryKeyConstraint("id", name="pk_ocsp_record"),
    )
    op.create_index("ix_ocsp_record_at", "ocsp_record", ["at"])

    op.create_table(
        "subscriber",
        sa.Column("id", Record, nullable=False),
        sa.Column("handle", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("common_name", sa.String(length=64), nullable=False),
        sa.Column("agency_id", Record, nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name="fk_subscriber_agency_id_agency"),
        sa.PrimaryKeyConstraint("id", name="pk_subscriber"),
        sa.UniqueConstraint("handle", name="uq_subscriber_handle"),
    )
    op.create_index("ix_subscriber_agency_id", "subscriber", ["agency_id"])

    op.create_table(
        "certificate",
        sa.Column("id", Record, nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("authority_id", Record, nullable=False),
        sa.Column("subscriber_id", Record, nullable=True),
        sa.Column("profile", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("key_label", sa.String(length=128), nullable=True),
        sa.Column("spki_sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("tbs", sa.LargeBinary(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=True),
        sa.Column("not_before", Moment(), nullable=False),
        sa.Column("not_after", Moment(), nullable=False),
        sa.Column("intended_at", Moment(), nullable=False),
        sa.Column("issued_at", Moment(), nullable=True),
        sa.Column("revoked_at", Moment(), nullable=True),
        sa.Column("revocation_reason", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["authority_id"], ["authority.id"], name="fk_certificate_authority_id_authority"),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name="fk_certificate_subscriber_id_subscriber"),
        sa.PrimaryKeyConstraint("id", name="pk_certificate"),
        sa.UniqueConstraint("serial", name="uq_certificate_serial"),
    )
    op.create_index("ix_certificate_key_label", "certificate", ["key_label"])
    op.create_index("ix_certificate_profile", "certificate", ["profile"])
    op.create_index("ix_certificate_revoked", "certificate", ["authority_id", "revoked_at"])
    op.create_index("ix_certificate_spki_sha256", "certificate", ["spki_sha256"])
    op.create_index("ix_certificate_state", "certificate", ["state"])
    op.create_index("ix_certificate_subscriber_id", "certificate", ["subscriber_id"])

    op.create_table(
        "signing_grant",
        sa.Column("client_id", Record, nullable=False),
        sa.Column("subscriber_id", Record, nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["api_client.id"], name="fk_signing_grant_client_id_api_client"),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name="fk_signing_grant_subscriber_id_subscriber"),
        sa.PrimaryKeyConstraint("client_id", "subscriber_id", name="pk_signing_grant"),
    )
    _make_audit_log_append_only()


def _make_audit_log_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_entry_{act.lower()} BEFORE {act} ON audit_entry BEGIN SELECT RAISE(ABORT, '{_REFUSE}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{_REFUSE}'; END $$"
    )
    for act, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        name = f"audit_entry_{act.split(maxsplit=1)[0].lower()}"
        op.execute(f"CREATE TRIGGER {name} BEFORE {act} ON audit_entry FOR EACH {each} EXECUTE FUNCTION refuse_audit_change()")


def downgrade() -> None:
    """Take this revision back."""
    for table in reversed(TABLES):
        op.drop_table(table)
