"""What shops write on a page that answers 200 and yet is an error. Pure.

Looked for in titles, headings and alerts only, never in the whole text. Short phrases have to be a whole title, part of a title, or
heading: a shop may sell a mug called "Error 404".
"""

import re
from collections.abc import Iterable

_MOST = 300                # characters of a text that are looked at

# Anywhere in a title, heading or alert: nobody calls a product so. In lower case, with plain apostrophes.
_SENTENCES = (
    # WordPress and WooCommerce
    "there has been a critical error on", "error establishing a database connection", "there was an error processing your order",
    "we were unable to process your order", "there are no payment methods available", "no available payment methods",
    "es gab einen kritischen fehler auf", "il y a eu une erreur critique sur", "ha habido un error crítico en",
    "er heeft zich een kritieke fout voorgedaan", "si è verificato un errore critico", "unable to create order", "error processing checkout",
    # Magento
    "there has been an error processing your request", "exception printing is disabled", "an error has happened during application run",
    "an error occurred on the server", "a server error stopped your order", "unable to place order", "requested payment method is not available",
    # Shopware, OpenCart, django-oscar
    "no payment options are available", "no shipping options are available", "a problem occurred", "problem occurred during payment",
    "problem occurred communicating with", "we experienced an error", "unable to take payment",
    # PHP, frameworks and web servers
    "looks like something went wrong", "application error: a", "whitelabel error page", "oops! an error occurred",
    'the server returned a "500', "backend fetch failed", "no healthy upstream", "upstream connect error",
    "uncaught exception", "uncaught error", "sqlstate[", "stack trace:", "traceback (most recent call last)",
    # any shop
    "something went wrong", "something has gone wrong", "an unexpected error", "an error occurred", "an error has occurred",
    "internal error occurred", "internal error has occurred", "we're having trouble", "try again later",
    "ein fehler ist aufgetreten", "ein fehler aufgetreten", "ein unerwarteter fehler", "etwas schief gelaufen", "etwas schiefgelaufen",
    "etwas ist schief", "ein problem ist aufgetreten", "ein problem aufgetreten", "versuchen sie es später", "versuche es später",
    "fehler bei der verarbeitung", "keine zahlungsart verfügbar", "keine zahlungsarten verfügbar",
    "une erreur est survenue", "une erreur s'est produite", "une erreur inattendue", "un problème est survenu", "un problème s'est produit",
    "quelque chose s'est mal passé", "réessayer plus tard", "aucun moyen de paiement disponible", "aucun mode de paiement disponible",
    "se ha producido un error", "ha ocurrido un error", "ocurrió un error", "se produjo un error", "un error inesperado", "algo salió mal",
    "algo ha salido mal", "algo ha ido mal", "ha ocurrido un problema", "inténtelo de nuevo más tarde", "inténtalo de nuevo más tarde",
    "no hay métodos de pago disponibles",
    "er is een fout opgetreden", "er is een onverwachte fout", "er ging iets mis", "er is iets misgegaan", "er is iets fout gegaan",
    "er is een probleem opgetreden", "probeer het later opnieuw", "geen betaalmethoden beschikbaar",
    "si è verificato un errore", "si è verificato un problema", "un errore imprevisto", "qualcosa è andato storto", "riprova più tardi",
    "nessun metodo di pagamento disponibile",
)
# A whole title, a part of a title between separators, or a whole heading or alert.
_NAMES = frozenset((
    "error", "errors", "internal error", "server error", "internal server error", "fatal error", "critical error", "application error",
    "service unavailable", "service temporarily unavailable", "bad gateway", "gateway timeout", "gateway time-out", "bad request", "forbidden",
    "not found", "page not found", "oops", "oops!", "whoops", "whoops!", "an error", "unexpected error", "system error", "payment error",
    "the page you requested cannot be found", "unknown error",
    "fehler", "interner fehler", "interner serverfehler", "serverfehler", "seite nicht gefunden", "unbekannter fehler",
    "die seite konnte nicht gefunden werden", "schwerwiegender fehler",
    "erreur", "erreur interne", "erreur interne du serveur", "erreur serveur", "page introuvable", "page non trouvée", "erreur inconnue",
    "error interno", "error interno del servidor", "error del servidor", "página no encontrada", "error desconocido",
    "fout", "interne fout", "interne serverfout", "serverfout", "pagina niet gevonden", "onbekende fout",
    "errore", "errore interno", "errore interno del server", "errore del server", "pagina non trovata", "errore sconosciuto",
))
_CODE = re.compile(r"(?:(?:http )?(?:error|fehler|erreur|errore|fout)[ :]{0,2})?[45]\d\d(?:[ :]{0,2}(?:error|fehler|erreur|errore|fout))?[ :,-]{0,3}")
_SEPARATOR = re.compile(r"\s[|–—\-·•»:/]\s|[|»]|:\s")
_PHP = re.compile(r"(fatal error|parse error|warning|notice|deprecated|recoverable fatal error)\s{0,3}:.*\sin\s{0,3}$", re.IGNORECASE | re.DOTALL)
_SPACE = re.compile(r"\s+")
_PUNCTUATION = " .!…:;,"


def soft_error(title: str, headings: Iterable[str] = (), alerts: Iterable[str] = (), printed: Iterable[str] = ()) -> str:
    """The error that a page speaks of in words of this module, "" when it speaks of none.

    `printed` are bold texts at the beginning of a line with what follows, up to the next bold one: PHP prints "Warning: … in FILE" so.
    """
    told = (_php(text) for text in printed)
    return next(filter(None, (*told, *map(_whole, alerts), *map(_whole, headings), _in_title(title))), "")


def _php(text: str) -> str:
    found = _PHP.match(text[:_MOST].strip())
    return f"php {found[1].lower()}" if found else ""


def _in_title(text: str) -> str:
    whole = _plain(text)
    return _sentence(whole) or next(filter(None, map(_name, (whole, *_SEPARATOR.split(whole)[:8]))), "")


def _whole(text: str) -> str:
    whole = _plain(text)
    return _sentence(whole) or _name(whole)


def _sentence(text: str) -> str:
    return next((sentence for sentence in _SENTENCES if sentence in text), "")


def _name(text: str) -> str:
    """A phrase of which the text has nothing else, but for a status code: "500 - Internal Server Error"."""
    text = text.strip(_PUNCTUATION)
    code = _CODE.match(text)
    rest = text[code.end():].strip(_PUNCTUATION) if code else text
    if code and not rest:
        return "error" if any(char.isalpha() for char in code[0]) else ""
    return rest if rest in _NAMES else ""


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text[:_MOST].replace("’", "'").replace("“", '"').replace("„", '"')).strip().lower()
