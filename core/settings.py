"""What ``condau.toml`` says: one frozen dataclass for each table, every key with its default and its meaning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NamedTokenConfig:
    """``[[hsm.tokens]]``: one more token of the same module. A key in it is labelled ``name:label``."""

    name: str = ""
    """What key labels begin with; a-z, 0-9 and hyphens."""
    token_label: str = ""
    pin_file: Path = Path()
    """As ``hsm.pin_file``."""
    offline: bool = False
    """It need not be present while serving (a root's): the authority's CRL is made in a ceremony, not by schedule."""


@dataclass(frozen=True, slots=True)
class HsmConfig:
    """``[hsm]``: which PKCS#11 module, which token, and how many calls at once it bears."""

    module: Path = Path("/usr/lib/softhsm/libsofthsm2.so")
    """The PKCS#11 module (a shared library)."""
    token_label: str = "condau"  # noqa: S105 - the token's public label, not a secret
    pin_file: Path = Path("secrets/user-pin")
    """Holds the user PIN on its first line; relative to the instance's folder."""
    sessions: int = 1
    """PKCS#11 sessions used at once in one process. 1 puts one lock around every call, which every module bears; more is
    for a module that does its own locking (a network HSM), to keep several requests in flight."""
    retry_after: int = 1
    """Seconds a client is told to wait while the HSM is away."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables the module itself reads (``SOFTHSM2_CONF``, ``P11_KIT_SERVER_ADDRESS``); ``{home}`` is the instance's folder."""
    tokens: tuple[NamedTokenConfig, ...] = ()
    """Further tokens of the same module."""

    def is_offline(self, key_label: str) -> bool:
        """Whether the key with this label lies in a token that need not be present while serving."""
        name, colon, _ = key_label.partition(":")
        return bool(colon) and any(token.offline for token in self.tokens if token.name == name)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """``[server]``: the HTTP side."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 2
    threads: int = 8
    body_limit: int = 100_000_000
    """Bytes of a request body; more is refused while it is being read."""
    document_limit: int = 512_000_000
    """The same for a PDF that is to be signed, which waits in a file and not in memory."""
    spool: Path = Path("spool")
    """The folder for such files, which have no name in it; relative to the instance's folder, and made when first needed."""


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """``[pki.fetch]``: certificates, lists and OCSP answers of other people's authorities, for the archive."""

    hosts: tuple[str, ...] = ()
    """The hosts that may be asked, as in URLs of certificates: ``crl.example.vn``, ``ocsp.example.vn:8080``. None: nobody is."""
    seconds: int = 5
    """The longest one answer may take."""
    size: int = 10_000_000
    """Bytes of the largest answer that is taken."""


@dataclass(frozen=True, slots=True)
class PkiConfig:
    """``[pki]``: terms of certificates and of the lists about them."""

    certificate_days: int = 1095
    """Validity of a subscriber's certificate; law allows at most 5 years (1826 days)."""
    profiles: Path = Path("profiles")
    """Folder of the instance's own certificate profiles (``NAME.toml``), relative to its folder; it need not exist."""
    crl_hours: int = 24
    """From a CRL's thisUpdate to its nextUpdate; a new one is issued when half of it has passed."""
    crl_partitions: int = 1
    """Over how many parts of the CRL new certificates are spread; 1: they all name the complete one, which is always issued."""
    offline_crl_days: int = 180
    """The same for an authority whose token is offline: its CRL is issued in a ceremony, and lasts until the next one."""
    restore_gap: int = 1000
    """By how much CRL numbers jump after a restore: more than any that may have been published since the backup."""
    backup_hours: int = 24
    """`condau check` warns of a last backup older than this."""
    ocsp_minutes: int = 10
    """From an OCSP response's thisUpdate to its nextUpdate."""
    ocsp_cache_seconds: int = 30
    """For how long an answer without a nonce may be given again, as long as no status changed; 0: never."""
    ocsp_evidence_hours: int = 168
    """Of OCSP answers about a certificate the first after each change is kept as proof, and then one in so many hours; 0: only
    the first."""
    fetch: FetchConfig = field(default_factory=FetchConfig)


@dataclass(frozen=True, slots=True)
class TsaUnitConfig:
    """``[[tsa.units]]``: a time-stamping unit, which answers at ``/tsa/{name}`` and at ``/tsa`` to those who ask for its policy."""

    name: str
    """Lower-case letters, digits and hyphens, at most 32."""
    policy: str = ""
    """The policy OID it stamps under; empty: ``tsa.policy``."""
    key: str = "p-256"
    """The kind of key made for it: ``rsa-2048`` to ``rsa-4096``, ``p-256``, ``p-384``, ``p-521``, ``ed25519``."""
    pss: bool = False
    """A RSA key signs by RSASSA-PSS and not by PKCS #1 v1.5."""
    keys: int = 1
    """Keys used in turn, each with a certificate of its own, where one key is the limit."""
    qualified: bool = False
    """Every timestamp states that it is a qualified one (ETSI EN 319 422, 9.1: esi4-qtstStatement-1)."""


@dataclass(frozen=True, slots=True)
class ClockConfig:
    """``[tsa.clock]``: what the time of time-stamps rests on."""

    sources: tuple[str, ...] = ("kernel",)
    """The time sources: ``kernel`` (its synchronisation state), ``chrony`` (chronyd on this machine), ``ntp://host[:port]``."""
    quorum: int = 0
    """Sources that must agree: more than half of them. 0 is the smallest such number."""
    interval: int = 16
    """Seconds between two rounds of asking the sources."""
    max_age: int = 64
    """Seconds that the sources' verdict counts while they are silent; then nothing is stamped."""
    unchecked: bool = False
    """Stamp also when nothing vouches for the clock: only in a development instance."""


@dataclass(frozen=True, slots=True)
class TsaLimit:
    """``[[tsa.limits.clients]]``: what one known client may have; 0 is without limit."""

    name: str
    """The client's name in the registry."""
    per_second: int = 0
    per_day: int = 0


@dataclass(frozen=True, slots=True)
class TsaLimits:
    """``[tsa.limits]``: how many timestamps a caller may have; 0 is without limit. Days are those of UTC."""

    anonymous_per_second: int = 0
    """For each address a caller without a key comes from."""
    anonymous_per_day: int = 0
    """For all callers without a key together."""
    client_per_second: int = 0
    """For each known client that ``clients`` does not name."""
    client_per_day: int = 0
    clients: tuple[TsaLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class TsaConfig:
    """``[tsa]``: the time-stamping authority."""

    policy: str = "1.3.6.1.4.1.99999.1.1"
    """The TSA policy OID put into every timestamp when the request names none."""
    accuracy_milliseconds: int = 1000
    """The stated accuracy; ETSI EN 319 421 allows at most 1 s."""
    clock: ClockConfig = field(default_factory=ClockConfig)
    limits: TsaLimits = field(default_factory=TsaLimits)
    operator: str = ""
    """The organisation that runs the service, as the policy statement names it (ETSI EN 319 421, 6.1)."""
    contact: str = ""
    """How it is reached, as the policy statement says it: an address, a telephone number, an e-mail address; one line."""
    organization_identifier: str = ""
    """organizationIdentifier in the units' names, such as ``VATVN-0100000000`` or ``MD:VN-H26`` (ETSI EN 319 412-1, 5.1.4)."""
    units: tuple[TsaUnitConfig, ...] = ()
    """The units, the one first that answers where no policy and no unit is asked for; none stands for a single ``default``."""

    @property
    def all_units(self) -> tuple[TsaUnitConfig, ...]:
        """The units that there are, each with its policy said."""
        units = self.units or (TsaUnitConfig(name="default"),)
        return tuple(unit if unit.policy else dataclasses.replace(unit, policy=self.policy) for unit in units)


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """``[metrics]``: who may read ``/metrics``."""

    open: bool = False
    """Everybody who reaches the service; otherwise auditors and admins, by their API key."""


@dataclass(frozen=True, slots=True)
class ActivationConfig:
    """``[signer.activation]``: whose key is used only after its clerk has activated it, and for how long that counts."""

    required: tuple[str, ...] = ()
    """Handles of subscribers, or kinds (``agency``, ``officer``), whose key needs it for whatever it signs; ``"*"`` is
    everybody's. A key with a holder's PIN or code needs it anyway."""
    minutes: int = 10
    """The longest an activation lives."""
    batch: int = 500
    """The most acts of one activation."""


@dataclass(frozen=True, slots=True)
class HygieneConfig:
    """``[signer.hygiene]``: what becomes of an official document that holds something by which its looks could change later:
    ``refuse``, or ``report`` it in the audit log and sign. A document signed as ``plain`` is signed whatever it holds."""

    javascript: str = "refuse"
    launch: str = "refuse"
    """Actions that start programs, or send and load form data."""
    xfa: str = "refuse"
    layers: str = "report"
    """Layers that are hidden, or shown by circumstance."""
    external: str = "refuse"
    """Content in other files or at addresses. A link to one is no content."""
    shadow: str = "report"
    """Content that is in the file and not shown."""
    unreadable: str = "refuse"
    """Objects that could not be looked at, in which any of it may be."""


@dataclass(frozen=True, slots=True)
class SignerConfig:
    """``[signer]``: signatures on documents."""

    font: Path = Path("/usr/share/fonts/truetype/croscore/Tinos-Regular.ttf")
    """A TrueType font with every Vietnamese letter, for visible stamps. Tinos has the metrics of Times New Roman (Debian and
    Ubuntu: fonts-croscore)."""
    when_material_is_away: str = "refuse"
    """What becomes of a signature whose timestamp, or material for B-LT, cannot be had: ``refuse``, or ``lower``: it is made at
    the level that can be reached, which the answer and the record say."""
    archive_margin_days: int = 90
    """So many days before an archive timestamp loses its force the document is due for the next one."""
    secrecy: str = "official"
    """In the text of which documents a secrecy mark is looked for, which takes a tenth of a second: ``official``, those signed
    with a profile of their own, or ``all``. What the caller states is heeded always."""
    activation: ActivationConfig = field(default_factory=ActivationConfig)
    hygiene: HygieneConfig = field(default_factory=HygieneConfig)


@dataclass(frozen=True, slots=True)
class ApprovalsConfig:
    """``[approvals]``: which acts wait until other people have approved them. Each list names profiles (authorities, roles);
    ``"*"`` is every one. Empty lists: nobody has to be asked."""

    needed: int = 1
    """How many people beside the one who asks."""
    hours: int = 72
    """After this a request that nobody decided has expired."""
    issue: tuple[str, ...] = ()
    """Profiles whose certificates are issued, renewed or rekeyed only with approval, also in bulk."""
    revoke: tuple[str, ...] = ()
    """Profiles whose certificates are revoked only with approval."""
    resume: tuple[str, ...] = ()
    """Profiles whose certificates, once suspended, are resumed only with approval."""
    profile: tuple[str, ...] = ()
    """Profiles that are changed only with approval."""
    authority: tuple[str, ...] = ()
    """Authorities that are put to work only with approval."""
    role: tuple[str, ...] = ()
    """Roles that are given to a caller or taken from one only with approval."""
    activation: tuple[str, ...] = ()
    """Handles of subscribers whose keys' holders are given secrets, unlocked and removed only with approval."""


@dataclass(frozen=True, slots=True)
class JobsConfig:
    """``[jobs]``: enrolments and replacements in bulk."""

    rows_per_second: int = 20
    """The most rows a job does in a second, so that signatures asked for meanwhile find the HSM free."""


@dataclass(frozen=True, slots=True)
class BatchesConfig:
    """``[batches]``: many documents or digests in one call."""

    bytes: int = 4_000_000_000
    """Of all documents of one batch."""
    keep_hours: int = 24
    """So long after its end a batch's results are kept for its client to fetch."""
    key_file: Path = Path("secrets/batch-key")
    """The key that seals the passwords of encrypted documents while they wait; relative to the instance's folder."""


@dataclass(frozen=True, slots=True)
class NoticesConfig:
    """``[notices]``: who is told what: reminders by e-mail, every event by webhook. Nothing is sent until it is configured."""

    officer_days: int = 60
    """So many days before a certificate expires its holder is reminded; 0: not at all, as below."""
    agency_days: int = 30
    """The same for the holder's agency, and the holder again."""
    operator_days: int = 7
    """The same for the operator of this service, and both of them again."""
    operator_email: str = ""
    """The operator's address."""
    mail_from: str = ""
    """The sender's address; needed where there is a mail server."""
    smtp_host: str = ""
    """The mail server; empty: no e-mail is sent."""
    smtp_port: int = 587
    smtp_security: str = "starttls"
    """``starttls``, ``tls`` (from the first byte) or ``none`` (a mail server on this machine)."""
    smtp_user: str = ""
    """Empty: no login."""
    smtp_password_file: Path = Path("secrets/smtp-password")
    """Holds the user's password; relative to the instance's folder."""
    webhooks: Mapping[str, str] = field(default_factory=dict)
    """Names of receivers and the URLs that every event is sent to. Only these: no request can name another."""
    secrets: Path = Path("secrets/webhooks")
    """The folder with each webhook's secret, in a file with its name; relative to the instance's folder."""
    attempts: int = 12
    """How often a delivery is tried, at growing intervals, before it is given up; 12 attempts take about a day."""
    keep_days: int = 400
    """Days after which an event that everybody was told is forgotten; 0: never. What was not delivered stays."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole of ``condau.toml``. ``home`` is the folder it was found in."""

    home: Path
    public_url: str = "http://127.0.0.1:8080"
    """Where clients reach this service; written into certificates as CRL, OCSP and issuer URLs."""
    database_url: str = ""
    """SQLAlchemy URL; empty means ``condau.sqlite3`` in the instance's folder."""
    development: bool = False
    """A development instance: known to be one, and never to be trusted by anybody else."""
    hsm: HsmConfig = field(default_factory=HsmConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    pki: PkiConfig = field(default_factory=PkiConfig)
    approvals: ApprovalsConfig = field(default_factory=ApprovalsConfig)
    jobs: JobsConfig = field(default_factory=JobsConfig)
    batches: BatchesConfig = field(default_factory=BatchesConfig)
    tsa: TsaConfig = field(default_factory=TsaConfig)
    signer: SignerConfig = field(default_factory=SignerConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    notices: NoticesConfig = field(default_factory=NoticesConfig)
