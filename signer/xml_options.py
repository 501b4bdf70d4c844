"""What a caller may say about an XML signature: query parameters and JSON alike, and what the OpenAPI document shows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from signer.options import Level


class XmlOptions(BaseModel):
    """How an XML document is to be signed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signer: str | None = Field(
        default=None,
        max_length=64,
        description="Whose key signs: a subscriber's handle or a certificate's serial number (hex). "
        "Default: the only one you may use.",
    )
    level: Level = Field(default="B-T", description="B-B: the signature alone; B-T: with a timestamp over it.")
    element: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Id of the one element to sign, without #. Default: the whole document. A verifier that does not know "
        "what your element means can only say that part of the document is signed.",
    )
