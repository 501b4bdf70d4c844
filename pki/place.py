"""Where the key of an authority or a service is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key is made, and for which generation of which authority."""

    token: str = ""
    """The name of the token (``[[hsm.tokens]]``); empty for the default one."""
    alias: str = ""
    """What all generations of the authority have in common; empty: its name."""
    generation: int = 1

    def label(self, plain: str) -> str:
        """The key's label, with its token's name where it is not in the default one."""
        return f"{self.token}:{plain}" if self.token else plain
