"""Mail over SMTP: one message per page to all recipients, each with an answer of its own (alertmanager-3496)."""

import ipaddress
import re
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, parseaddr
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

import aiosmtplib
from aiohttp import ClientSession
from pydantic import AfterValidator, ConfigDict, Field, model_validator

from monitor.alerts.delivery import TIMEOUT, Delivered, DeliveryError, Message, ReceiverSettings
from monitor.clock import true_time
from probes.fields import ConfigPath, SecretError, SecretField, Several
from probes.scrub import scrub

GREYLISTED = 60.0  # s: a server that says "later" rarely means sooner
_REFUSED = "!"  # before a settled recipient that was refused for good
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


_PLAIN = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\-]+@[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?"
_MAILBOX = re.compile(rf'(?:([^<>"@,;:\\]*)<({_PLAIN})>|({_PLAIN}))')


def _address(text: str) -> str:
    """One mail address, with or without a name. Nothing in it can end a header or a command."""
    match = _MAILBOX.fullmatch(text)
    if not match or not text.isprintable():
        raise ValueError('write one mail address, such as "oncall@shop.example" or "Tillwatch <tillwatch@shop.example>"')
    return str(Address((match[1] or "").strip(), addr_spec=match[2] or match[3]))


MailAddress = Annotated[str, AfterValidator(_address)]


class EmailSettings(ReceiverSettings):
    """kind = "email" """

    model_config = ConfigDict(populate_by_name=False)

    kind: Literal["email"]
    host: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._:\-]+$", description="the mail server")
    port: int | None = Field(default=None, ge=1, le=65535, description="default: 587 for starttls, 465 for tls, 25 for none")
    tls: Literal["starttls", "tls", "none"] = Field(default="starttls", description="starttls is required when chosen, never optional")
    allow_plaintext: bool = Field(default=False, description='tls = "none" to another host')
    ca_file: ConfigPath | None = Field(default=None, description="trust this authority instead of the system's")
    username: str = Field(default="", description="for the mail server; together with password, or neither")
    password: SecretField | None = Field(default=None, description="belongs to the user name")
    sender: MailAddress = Field(alias="from", description="the sender")
    to: Several[MailAddress] = Field(min_length=1, description="the recipients")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.tls == "none" and not self.allow_plaintext and not _loopback(self.host):
            raise ValueError(
                f'tls = "none" sends pages (and the password) readable to {self.host}: use "starttls" or "tls", or set allow_plaintext = true'
            )
        if bool(self.username) != bool(self.password):
            raise ValueError("username and password belong together")
        return self


async def send(settings: EmailSettings, _session: ClientSession, message: Message) -> Delivered | DeliveryError:
    """Hand the mail to the server. What one recipient is refused does not cost the others theirs."""
    known = {entry.removeprefix(_REFUSED) for entry in message.settled}
    left = [address for address in map(_bare, settings.to) if address not in known]
    if not left:
        return Delivered("no recipient is left")
    secret = ""
    try:
        secret = settings.password.reveal() if settings.password else ""
        refused = await _transmit(settings, secret, left, compose(settings, message).as_bytes())
    except SecretError as error:
        return DeliveryError(str(error), code="secret")
    except aiosmtplib.SMTPRecipientsRefused as error:
        refused = {r.recipient: (r.code, r.message) for r in error.recipients}
    except aiosmtplib.SMTPResponseException as error:
        return _answered(settings.host, error, secret)
    except (TimeoutError, aiosmtplib.SMTPTimeoutError):
        return DeliveryError(f"{settings.host} did not answer in time", code="timeout")
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return DeliveryError(f"{settings.host}: {_said(str(error), secret) or type(error).__name__}", code="connect")
    return _result(settings, left, refused, message.settled, secret)


def compose(settings: EmailSettings, message: Message) -> EmailMessage:
    """The mail. Its Message-ID is the same over all attempts, and all mails of an incident hang together as a thread."""
    page = message.page
    domain = _bare(settings.sender).rpartition("@")[2]
    thread = f"<incident.{page.incident}@{domain}>"
    mail = EmailMessage(policy=SMTP_POLICY.clone(cte_type="7bit"))
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Subject"] = page.title
    mail["Date"] = format_datetime(datetime.fromtimestamp(true_time(page.now), UTC))
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["In-Reply-To"] = thread
    mail["References"] = thread
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Tillwatch-Incident"] = page.incident
    text = page.brief() if message.minimal else page.text()
    mail.set_content(text.encode("utf-8", errors="replace").decode("utf-8") + "\n")
    return mail


async def _transmit(settings: EmailSettings, password: str, to: Sequence[str], content: bytes) -> dict[str, tuple[int, str]]:
    """One SMTP transaction: the recipients that were refused, with code and words."""
    smtp = aiosmtplib.SMTP(
        hostname=settings.host,
        port=settings.port or _PORTS[settings.tls],
        timeout=TIMEOUT - 1,
        local_hostname=_bare(settings.sender).rpartition("@")[2],
        use_tls=settings.tls == "tls",
        start_tls=settings.tls == "starttls",
        tls_context=_trust(settings.ca_file) if settings.tls != "none" else None,
    )
    try:
        await smtp.connect()
        if settings.username:
            await smtp.login(settings.username, password)
        refused, _ = await smtp.sendmail(_bare(settings.sender), to, content)
        return {recipient: (answer.code, answer.message) for recipient, answer in refused.items()}
    finally:
        # No QUIT: the server has the mail, or it has not; what happens after its answer to DATA changes neither.
        smtp.close()


def _answered(host: str, error: aiosmtplib.SMTPResponseException, secret: str) -> DeliveryError:
    """What an answer to the whole mail means. No code: it was no answer of the protocol at all."""
    said = _said(error.message, secret)
    if error.code < 200:
        return DeliveryError(f"{host} does not speak SMTP: {said}", code="protocol")
    later = 400 <= error.code < 500
    return DeliveryError(
        f"{host} answered {error.code}: {said}", permanent=error.code >= 500, retry_after=GREYLISTED if later else None, code=str(error.code)
    )


def _result(
    settings: EmailSettings, left: Sequence[str], refused: Mapping[str, tuple[int, str]], settled: tuple[str, ...], secret: str
) -> Delivered | DeliveryError:
    later = [r for r in left if r in refused and refused[r][0] < 500]
    done = (*settled, *((_REFUSED if r in refused else "") + r for r in left if r not in later))
    said = "; ".join(f"{recipient}: {code} {_said(text, secret)}" for recipient, (code, text) in refused.items())
    words = f"{len(refused)} of {len(settings.to)} recipients refused: {said}"[:500] if refused else ""
    code = str(next(iter(refused.values()))[0]) if refused else ""
    if later:
        return DeliveryError(words, retry_after=GREYLISTED, code=code, settled=done)
    if all(entry.startswith(_REFUSED) for entry in done):
        return DeliveryError(words, permanent=True, code=code)
    return Delivered(words)


def _said(text: str, secret: str) -> str:
    return scrub(text, (secret,) if secret else (), limit=200)


def _bare(address: str) -> str:
    return parseaddr(address)[1]


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=8)
def _trust(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
