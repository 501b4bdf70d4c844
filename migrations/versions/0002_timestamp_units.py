"""timestamp units: their keys, and the record by unit and month."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEW = (("month", 7, ""), ("unit", 32, "default"))
_MONTH = {"sqlite": "strftime('%Y-%m', gen_time)", "postgresql": "to_char(gen_time AT TIME ZONE 'UTC', 'YYYY-MM')"}


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "timestamp_unit_key",
        sa.Column("id", Record, nullable=False),
        sa.Column("unit", sa.String(length=32), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("key_label", sa.String(length=128), nullable=False),
        sa.Column("claimed_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_timestamp_unit_key"),
        sa.UniqueConstraint("unit", "slot", "generation", name="uq_timestamp_unit_key_unit"),
        sa.UniqueConstraint("key_label", name="uq_timestamp_unit_key_key_label"),
    )
    for name, length, default in _NEW:
        op.add_column("timestamp", sa.Column(name, sa.String(length=length), nullable=False, server_default=default))
    op.execute(f"UPDATE timestamp SET month = {_MONTH[op.get_bind().dialect.name]}")  # noqa: S608 - one of the two above
    with op.batch_alter_table("timestamp") as table:
        for name, _, _ in _NEW:
            table.alter_column(name, server_default=None)  # it was for the rows of before
        table.drop_index("ix_timestamp_gen_time")
        table.create_index("ix_timestamp_month", ["month"])


def downgrade() -> None:
    """Take this revision back."""
    with op.batch_alter_table("timestamp") as table:
        table.drop_index("ix_timestamp_month")
        table.create_index("ix_timestamp_gen_time", ["gen_time"])
        for name, _, _ in _NEW:
            table.drop_column(name)
    op.drop_table("timestamp_unit_key")
