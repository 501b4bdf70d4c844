"""Every room's tables, brought together so that Alembic sees them all."""

from __future__ import annotations

import audit.log
import pki.models
import registry.models
import signer.models
import tsa.models
from core.db import Base

metadata = Base.metadata
ROOMS = (audit.log, registry.models, pki.models, tsa.models, signer.models)
"""The modules whose import put their tables into ``metadata``."""
