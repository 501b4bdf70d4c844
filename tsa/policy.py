"""The TSA policy and practice statement (ETSI EN 319 421, 6.1 and 6.2), its numbers being the configured ones."""

from __future__ import annotations

from typing import Final

import jinja2

from core.settings import Config, TsaLimit
from pki.profile_files import load_profiles
from tsa.request import HASH_NAMES, NONCE_OCTETS, QUERY_LIMIT
from tsa.units import PROFILE

LANGUAGES: Final = ("vi", "en")
_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("tsa"),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # noqa: S701 - it is Markdown; the page escapes what it makes of it
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render_policy(config: Config, language: str) -> str:
    """The statement as Markdown; ``language`` is one of LANGUAGES."""
    tsa, profile = config.tsa, load_profiles(config.pki.profiles)[PROFILE]
    limits = tsa.limits
    return _TEMPLATES.get_template(f"tsa-policy.{language}.md").render(
        url=config.public_url,
        development=config.development,
        operator=tsa.operator,
        contact=tsa.contact,
        units=tsa.all_units,
        accuracy=tsa.accuracy_milliseconds,
        hashes=", ".join(name.upper() if "-" in name else f"SHA-{name.removeprefix('sha')}" for name in HASH_NAMES),
        nonce=NONCE_OCTETS,
        query_limit=QUERY_LIMIT,
        sources=", ".join(f"`{source}`" for source in tsa.clock.sources),
        quorum=tsa.clock.quorum or len(tsa.clock.sources) // 2 + 1,
        interval=tsa.clock.interval,
        max_age=tsa.clock.max_age,
        unchecked=tsa.clock.unchecked,
        certificate_days=profile.days,
        key_days=profile.key_days or profile.days,
        limits=(
            TsaLimit("anonymous", limits.anonymous_per_second, limits.anonymous_per_day),
            TsaLimit("client", limits.client_per_second, limits.client_per_day),
            *limits.clients,
        ),
    )
