"""Gates: who may sign for an agency, the register of numbers, activations of keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.add_column("signature", sa.Column("profile", sa.String(20)))
    _create_rules()
    op.create_table(
        "document_number",
        sa.Column("id", Record, primary_key=True),
        _reference("document_number", "agency_id", "agency"),
        sa.Column("series", sa.String(40), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(80), nullable=False),
        sa.Column("state", sa.String(4), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        _reference("document_number", "person_id", "subscriber", nullable=True),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("held_until", Moment()),
        _reference("document_number", "signature_id", "signature", nullable=True),
        sa.UniqueConstraint("agency_id", "series", "year", "number", name="uq_document_number_agency_id"),
    )
    op.create_index("ix_document_number_signature_id", "document_number", ["signature_id"])
    _create_activations()


def downgrade() -> None:
    """Take this revision back."""
    tables = (
        "activation_use",
        "activation",
        "activation_holder",
        "document_number",
        "signing_authorisation",
        "agency_signing_rule",
    )
    for name in tables:
        op.drop_table(name)
    with op.batch_alter_table("signature") as table:
        table.drop_column("profile")


def _reference(table: str, column: str, to: str, *, nullable: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey(f"{to}.id", name=f"fk_{table}_{column}_{to}")
    return sa.Column(column, Record, key, nullable=nullable)


def _create_rules() -> None:
    op.create_table(
        "agency_signing_rule",
        _reference("agency_signing_rule", "agency_id", "agency"),
        sa.Column("one_person", sa.String(200)),
        sa.Column("one_person_until", Moment()),
        sa.Column("one_series", sa.Boolean(), nullable=False),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.Column("changed_by", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("agency_id", name="pk_agency_signing_rule"),
    )
    op.create_table(
        "signing_authorisation",
        sa.Column("id", Record, primary_key=True),
        _reference("signing_authorisation", "agency_id", "agency"),
        _reference("signing_authorisation", "subscriber_id", "subscriber"),
        _reference("signing_authorisation", "granted_by_id", "subscriber"),
        sa.Column("capacity", sa.String(3), nullable=False),
        sa.Column("reference", sa.String(200), nullable=False),
        sa.Column("content", sa.String(1000), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.Column("until", Moment()),
        sa.Column("recorded_at", Moment(), nullable=False),
        sa.Column("recorded_by", sa.String(200), nullable=False),
        sa.Column("withdrawn_at", Moment()),
    )
    op.create_index("ix_signing_authorisation_agency_id", "signing_authorisation", ["agency_id"])
    op.create_index("ix_signing_authorisation_subscriber_id", "signing_authorisation", ["subscriber_id"])


def _create_activations() -> None:
    op.create_table(
        "activation_holder",
        sa.Column("id", Record, primary_key=True),
        _reference("activation_holder", "key_id", "subscriber"),
        _reference("activation_holder", "person_id", "subscriber"),
        sa.Column("pin_hash", sa.String(200)),
        sa.Column("pin_initial", sa.Boolean(), nullable=False),
        sa.Column("otp_secret", sa.LargeBinary()),
        sa.Column("otp_step", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", Moment()),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.UniqueConstraint("key_id", "person_id", name="uq_activation_holder_key_id"),
    )
    op.create_table(
        "activation",
        sa.Column("id", Record, primary_key=True),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        _reference("activation", "key_id", "subscriber"),
        _reference("activation", "person_id", "subscriber"),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("digests", sa.JSON()),
        sa.UniqueConstraint("token_sha256", name="uq_activation_token_sha256"),
    )
    op.create_index("ix_activation_expires_at", "activation", ["expires_at"])
    op.create_table(
        "activation_use",
        _reference("activation_use", "activation_id", "activation"),
        _reference("activation_use", "signature_id", "signature"),
        sa.PrimaryKeyConstraint("activation_id", "signature_id", name="pk_activation_use"),
    )
    op.create_index("ix_activation_use_signature_id", "activation_use", ["signature_id"])
