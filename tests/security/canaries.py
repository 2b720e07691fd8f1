"""Sixty secrets, each recognisable, and where it stands: in the configuration, in what the shop sends, in what receivers answer."""

import base64
import hashlib
import json
from dataclasses import dataclass
from urllib.parse import quote

CARDS = ("4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "30569309025904", "3530111333300000", "4242424242424242")


def secret(number: int) -> str:
    """One that looks like what key generators give out, and says which it is."""
    return f"cnry{number:02d}" + hashlib.sha256(str(number).encode()).hexdigest()[:20]


def webhook_key(number: int) -> str:
    return "whsec_" + base64.b64encode(secret(number).encode()).decode()


@dataclass(frozen=True, slots=True)
class Canary:
    """`bare` is what must be found nowhere, in no spelling of `spellings()`."""

    name: str
    bare: str

    def spellings(self) -> set[bytes]:
        forms = {self.bare, quote(self.bare, safe=""), json.dumps(self.bare)[1:-1], self.bare.upper()}
        packed = {base64.b64encode(b"\0" * skipped + self.bare.encode())[4 if skipped else 0 : -8] for skipped in range(3)}
        return {form.encode() for form in forms} | {code for code in packed if len(code) >= 12}


# Configured: known by value. 1 to 20 stand in configs of the daemon, by number.
CONFIGURED = {number: Canary(f"configured {number}", secret(number)) for number in range(1, 21)}

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjbnJ5MzAifQ." + secret(30)
PEM = f"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg{secret(31)}\n-----END PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Told:
    """What a page of the shop says, and what of it must not be seen: known by its shape alone."""

    says: str
    bare: str


def _shapes() -> list[Told]:
    templates = (
        "Authorization: Bearer {}", "authorization: Basic {}", "Cookie: PHPSESSID={}; a=b", "Set-Cookie: sid={}; Path=/", "X-Api-Key: {}",
        "GET /cart?token={}&x=1", "/reset?key={}", "/feed?a=1&signature={}", "/x?sig%3D{}", "https://till:{}@db.shop.example/x",
        "mysql://root:{}@10.0.0.7/shop", '{{"password": "{}"}}', '{{\\"client_secret\\": \\"{}\\"}}', "DB_PASSWORD={}", "passwd: {}",
        "use Bearer {} now", "ghp_{}", "sk_live_{}", "xoxb-{}", "AKIA{}", "session_id={}",
    )
    found = [Told(template.format(secret(32 + number)), secret(32 + number)) for number, template in enumerate(templates)]
    found += [Told(f"token {JWT} expired", JWT[-20:]), Told(PEM.replace("\n", "\\n"), secret(31)), Told(PEM, "MIIEvQIBADANBg")]
    spelled = (CARDS[0], "5555 5555 5555 4444", "3782-822463-10005", "6011%201111%201111%201117", "3056.930902.5904", "3530\\u00a01113 3330 0000",
               "4242\n4242\n4242\n4242")
    found += [Told(f"card {shown} declined", digits[:-4]) for shown, digits in zip(spelled, CARDS, strict=True)]
    found += [Told("card 4111111111111111|12/28|987", "|987"), Told("cvv: 7391", "cvv: 7391"), Told("cvc2 = 8264", "cvc2 = 8264")]
    found += [Told("mail to anna.muster61@kunde.example", "anna.muster61"), Told("anna62%40kunde.example wrote", "anna62"),
              Told("call +49 151 6371 9928 back", "6371 9928"), Told("phone=0171 6455 9931", "6455 9931")]
    return found


SHAPES = _shapes()
