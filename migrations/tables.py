"""Every room's tables, brought together so that Alembic sees them all."""

from __future__ import annotations

import approvals.models
import audit.log
import batches.models
import jobs.models
import notices.models
import pki.models
import registry.models
import signer.gate_models
import signer.look_models
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
    signer.gate_models,
    signer.look_models,
    jobs.models,
    batches.models,
    notices.models,
)
"""The modules whose import put their tables into ``metadata``."""
