"""The two ways out: a signed POST to a configured address, and an e-mail."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import urlsplit

from core.errors import Rejected, Unavailable
from core.settings import NoticesConfig
from notices.letters import write_letter
from notices.models import Delivery

SIGNATURE_HEADER = "Condau-Signature"
_SECONDS = 10.0


def sign_body(secret: bytes, body: bytes, timestamp: int) -> str:
    """The header's value: ``t=`` the Unix time, ``v1=`` HMAC-SHA256 in hex over that number, a full stop and the body."""
    return f"t={timestamp},v1={hmac.new(secret, b'%d.' % timestamp + body, hashlib.sha256).hexdigest()}"


def build_body(delivery: Delivery) -> bytes:
    """What a webhook is sent. ``id`` stays the same when it is sent again: a receiver that has seen it may ignore it."""
    event = delivery.event
    content = {"id": event.id, "kind": event.kind, "at": event.at.isoformat(), "subject": event.subject, "data": event.payload}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def send_webhook(delivery: Delivery, config: NoticesConfig, timestamp: int) -> None:
    """POST the event to the webhook whose name is the recipient. No redirect is followed, and the answer's body is not read.

    Raises Unavailable unless the answer is a 2xx, Rejected when the configuration has no such webhook or no secret for it.
    """
    url = config.webhooks.get(delivery.recipient)
    if url is None:
        raise Rejected("notices.webhooks", f"has no {delivery.recipient} any more")
    body = build_body(delivery)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "condau",
        SIGNATURE_HEADER: sign_body(load_secret(config, delivery.recipient), body, timestamp),
    }
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable("webhook", f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise Unavailable("webhook", f"answered {status}")


def load_secret(config: NoticesConfig, name: str) -> bytes:
    """The secret of a webhook: the file with its name in ``notices.secrets``, without the line's end."""
    path = config.secrets / name
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise Rejected("notices.secrets", f"{path} cannot be read: put the webhook's secret there") from error
    if len(secret) < 16:
        raise Rejected("notices.secrets", f"{path} must hold at least 16 characters")
    return secret


def send_email(delivery: Delivery, config: NoticesConfig) -> None:
    """Send the event as a letter. Raises Unavailable when the mail server does not take it."""
    letter = write_letter(delivery.event.kind, delivery.event.payload)
    message = EmailMessage()
    message["From"] = config.mail_from
    message["To"] = delivery.recipient
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(delivery.event.at)
    message["Message-ID"] = f"<delivery-{delivery.id}@{config.mail_from.rpartition('@')[2]}>"  # the same when it is sent again
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    try:
        with _connect(config) as server:
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise Unavailable("smtp", f"{type(error).__name__}: {error}") from error


def _connect(config: NoticesConfig) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if config.smtp_security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(config.smtp_host, config.smtp_port, timeout=_SECONDS, context=context)
    else:
        server = smtplib.SMTP(config.smtp_host, config.smtp_port, timeout=_SECONDS)
        if config.smtp_security == "starttls":
            server.starttls(context=context)
    if config.smtp_user:
        server.login(config.smtp_user, config.smtp_password_file.read_text(encoding="utf-8").strip())
    return server
