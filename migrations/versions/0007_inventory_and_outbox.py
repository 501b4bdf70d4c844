"""inventory and outbox."""

from __future__ import annotations

import re
import unicodedata

import sqlalchemy as sa
from alembic import op

from core.db import Moment, Record

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OF_CERTIFICATES = ("of_subscriber", "of_agency", "of_profile", "by_end", "by_reason")


def upgrade() -> None:
    """Apply this revision."""
    with op.batch_alter_table("certificate") as batch:
        batch.add_column(sa.Column("agency_id", Record, nullable=True))
        batch.create_foreign_key("fk_certificate_agency_id_agency", "agency", ["agency_id"], ["id"])
        batch.drop_index("ix_certificate_subscriber_id")
        batch.drop_index("ix_certificate_profile")
        batch.create_index("ix_certificate_of_subscriber", ["subscriber_id", "id"])
        batch.create_index("ix_certificate_of_agency", ["agency_id", "id"])
        batch.create_index("ix_certificate_of_profile", ["profile", "id"])
        batch.create_index("ix_certificate_by_end", ["not_after", "id"])
    op.execute(
        "UPDATE certificate SET agency_id = (SELECT agency_id FROM subscriber WHERE subscriber.id = certificate.subscriber_id)"
    )
    known = sa.text("revocation_reason IS NOT NULL")
    op.create_index(
        "ix_certificate_by_reason", "certificate", ["revocation_reason", "id"], sqlite_where=known, postgresql_where=known
    )
    _create_inventory()
    _create_outbox()


def _create_inventory() -> None:
    op.create_table(
        "inventory_summary",
        sa.Column("id", Record, autoincrement=False, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inventory_summary"),
    )
    texts = op.create_table(
        "holder_text",
        sa.Column("subscriber_id", Record, autoincrement=False, nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["subscriber_id"], ["subscriber.id"], name="fk_holder_text_subscriber_id_subscriber"),
        sa.PrimaryKeyConstraint("subscriber_id", name="pk_holder_text"),
    )
    words: dict[int, set[str]] = {}
    names = sa.text("SELECT c.subscriber_id, c.subject, s.handle FROM certificate c JOIN subscriber s ON s.id = c.subscriber_id")
    for subscriber, subject, handle in op.get_bind().execute(names):
        values = re.findall(r"=((?:\\.|[^,+])*)", subject)
        words.setdefault(subscriber, set()).update(_fold(" ".join([*values, handle])))
    rows = [{"subscriber_id": subscriber, "words": f" {' '.join(sorted(found))} "} for subscriber, found in words.items()]
    if rows:
        op.bulk_insert(texts, rows)


def _fold(text: str) -> set[str]:
    """The words of ``text`` as the inventory had them at this revision."""
    plain = unicodedata.normalize("NFD", text.lower()).replace("đ", "d")
    return set(re.findall(r"[^\W_]+", "".join(letter for letter in plain if not unicodedata.combining(letter))))


def _create_outbox() -> None:
    op.create_table(
        "contact",
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_contact"),
    )
    op.create_table(
        "outbox_event",
        sa.Column("id", Record, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=120), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("dispatched_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_event"),
        sa.UniqueConstraint("key", name="uq_outbox_event_key"),
    )
    waiting = sa.text("dispatched_at IS NULL")
    op.create_index("ix_outbox_event_undispatched", "outbox_event", ["id"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_index("ix_outbox_event_subject", "outbox_event", ["subject"])
    op.create_table(
        "delivery",
        sa.Column("id", Record, nullable=False),
        sa.Column("event_id", Record, nullable=False),
        sa.Column("channel", sa.String(length=10), nullable=False),
        sa.Column("recipient", sa.String(length=254), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", Moment(), nullable=False),
        sa.Column("leased_until", Moment(), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["outbox_event.id"], name="fk_delivery_event_id_outbox_event"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("event_id", "channel", "recipient", name="uq_delivery_event_id"),
    )
    op.create_index("ix_delivery_due", "delivery", ["state", "next_at"])
    op.create_table(
        "delivery_attempt",
        sa.Column("id", Record, nullable=False),
        sa.Column("delivery_id", Record, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("problem", sa.String(length=300), nullable=True),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name="fk_delivery_attempt_delivery_id_delivery"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery_attempt"),
    )
    op.create_index("ix_delivery_attempt_delivery_id", "delivery_attempt", ["delivery_id"])


def downgrade() -> None:
    """Take this revision back."""
    for table in ("delivery_attempt", "delivery", "outbox_event", "contact", "holder_text", "inventory_summary"):
        op.drop_table(table)
    for name in _OF_CERTIFICATES:
        op.drop_index(f"ix_certificate_{name}", "certificate")
    with op.batch_alter_table("certificate") as batch:
        batch.drop_constraint("fk_certificate_agency_id_agency", type_="foreignkey")
        batch.drop_column("agency_id")
        batch.create_index("ix_certificate_subscriber_id", ["subscriber_id"])
        batch.create_index("ix_certificate_profile", ["profile"])
