"""Every room's tables, brought together so that Alembic sees them all."""

from __future__ import annotations

import approvals.models
import audit.log
import jobs.models
import notices.models
import pki.models
import registry.models
import signer.models
import tsa.models
import web.models
from core.db import Base

metadata = Base.metadata
ROOMS = (
    audit.log,
    registry.models,
    approvals.models,
    web.models,
    pki.models,
    tsa.models,
    signer.models,
    jobs.models,
    notices.models,
)
"""The modules whose import put their tables into ``metadata``."""
