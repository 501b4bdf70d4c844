"""Signs PDF files with Condau while the files stay where they are: only digests are sent."""

from condau_client.batch import Outcome, sign_files
from condau_client.client import LEVELS, Client, Level
from condau_client.errors import (
    CondauError,
    Conflict,
    DocumentError,
    Forbidden,
    NotFound,
    Rejected,
    ServiceFault,
    Unauthenticated,
    Unavailable,
    Violation,
)
from condau_client.pdf import Appearance, HoleTooSmall, Material, Options, Prepared, Signer, finish, prepare

__all__ = [
    "LEVELS",
    "Appearance",
    "Client",
    "CondauError",
    "Conflict",
    "DocumentError",
    "Forbidden",
    "HoleTooSmall",
    "Level",
    "Material",
    "NotFound",
    "Options",
    "Outcome",
    "Prepared",
    "Rejected",
    "ServiceFault",
    "Signer",
    "Unauthenticated",
    "Unavailable",
    "Violation",
    "finish",
    "prepare",
    "sign_files",
]
