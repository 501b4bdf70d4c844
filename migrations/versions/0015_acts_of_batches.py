"""Which item of a batch an activation was used for, so that one that was cut off goes on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    with op.batch_alter_table("activation_use") as batch:
        batch.add_column(sa.Column("act", sa.String(48), nullable=True))
        batch.create_unique_constraint("uq_activation_use_activation_id", ["activation_id", "act"])


def downgrade() -> None:
    """Take this revision back."""
    with op.batch_alter_table("activation_use") as batch:
        batch.drop_constraint("uq_activation_use_activation_id", type_="unique")
        batch.drop_column("act")
