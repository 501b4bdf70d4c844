"""Registry and profiles: agencies in versions, more about subscribers, and what a certificate was issued under."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record
from registry.agency_codes import parse_agency_code

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""Since when an agency of the former schema, which kept no date, is said to have its name."""
_BACK = {
    "name": "UPDATE agency SET name = (SELECT name FROM agency_version WHERE agency_id = agency.id ORDER BY since DESC LIMIT 1)",
    "locality": "UPDATE agency SET locality = "
    "(SELECT locality FROM agency_version WHERE agency_id = agency.id ORDER BY since DESC LIMIT 1)",
}


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "agency_version",
        sa.Column("id", Record, nullable=False),
        sa.Column("agency_id", Record, nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("locality", sa.String(length=128), nullable=False),
        sa.Column("parent_id", Record, nullable=True),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("successor_id", Record, nullable=True),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name="fk_agency_version_agency_id_agency"),
        sa.ForeignKeyConstraint(["parent_id"], ["agency.id"], name="fk_agency_version_parent_id_agency"),
        sa.ForeignKeyConstraint(["successor_id"], ["agency.id"], name="fk_agency_version_successor_id_agency"),
        sa.PrimaryKeyConstraint("id", name="pk_agency_version"),
        sa.UniqueConstraint("agency_id", "since", name="uq_agency_version_agency_id"),
    )
    op.create_index("ix_agency_version_parent_id", "agency_version", ["parent_id"])
    copied = sa.text(
        "INSERT INTO agency_version (agency_id, since, name, locality, closed) "
        "SELECT id, :since, name, locality, :closed FROM agency"
    )
    since = sa.bindparam("since", _LONG_AGO, type_=Moment())
    op.execute(copied.bindparams(since, sa.bindparam("closed", value=False, type_=sa.Boolean())))
    op.add_column("agency", sa.Column("code_key", sa.String(length=35), nullable=False, server_default=""))
    _fill_code_keys()
    op.create_index("uq_agency_code_key", "agency", ["code_key"], unique=True)
    op.drop_column("agency", "name")
    op.drop_column("agency", "locality")

    op.add_column("subscriber", sa.Column("uid", sa.String(length=40), nullable=True))
    op.add_column("subscriber", sa.Column("email", sa.String(length=254), nullable=True))
    op.add_column("subscriber", sa.Column("dns_names", sa.JSON(), nullable=False, server_default="[]"))

    op.create_table(
        "profile_version",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("first_used_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name="pk_profile_version"),
    )
    op.create_table(
        "lint_set",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("lints", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lint_set"),
    )
    op.add_column("certificate", sa.Column("request_reference", sa.String(length=200), nullable=True))
    op.add_column("certificate", sa.Column("profile_version", sa.Integer(), nullable=True))
    op.add_column("certificate", sa.Column("profile_sha256", sa.String(length=64), nullable=True))
    op.add_column("certificate", sa.Column("lints", sa.String(length=64), nullable=True))


def _fill_code_keys() -> None:
    connection = op.get_bind()
    for identifier, code in connection.execute(sa.text("SELECT id, code FROM agency")).all():
        key = parse_agency_code(code).key
        connection.execute(sa.text("UPDATE agency SET code_key = :key WHERE id = :id"), {"key": key, "id": identifier})


def downgrade() -> None:
    """Take this revision back; of each agency the last name stays."""
    for column in ("lints", "profile_sha256", "profile_version", "request_reference"):
        op.drop_column("certificate", column)
    op.drop_table("lint_set")
    op.drop_table("profile_version")
    for column in ("dns_names", "email", "uid"):
        op.drop_column("subscriber", column)
    op.add_column("agency", sa.Column("name", sa.String(length=300), nullable=False, server_default=""))
    op.add_column("agency", sa.Column("locality", sa.String(length=128), nullable=False, server_default=""))
    for column in ("name", "locality"):
        op.execute(_BACK[column])
    op.drop_index("uq_agency_code_key", "agency")
    op.drop_column("agency", "code_key")
    op.drop_table("agency_version")
