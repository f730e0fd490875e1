"""Free text from a provider, made safe to show. The one place where such text is cleaned; it decides nothing else.

The time of a call is bounded by what it looks at: at most :data:`WINDOW` characters, by patterns that never go back
over more than a constant part of them. A repetition that could is bounded, possessive (``*+``), or
followed by nothing that can fail: Python 3.11.0 to 3.11.4 go wrong after a possessive group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from runops.core.model.secret import MASK, Secret

LONGEST = 200
WINDOW = 2_000
"""Characters of a text that are looked at, since no more than ``LONGEST`` can come out."""
LONGEST_WORD = 256
"""Characters of a word that the end of the window may have halved, and that therefore go."""

# --- addresses and tokens ----------------------------------------------------------------------------------------

# Each starts at the edge of a word only, so that a long text without spaces costs one pass.
_WORD = r"(?<![^\s\"'<>(),;=])[^\s\"'<>(),;=]*"
_ADDRESS = re.compile(rf"{_WORD}(?:(?<=[a-z0-9]):(?:\\?/){{2}}|\bwww\.|@|%40)\S*", re.IGNORECASE)
_LONG_TOKEN = re.compile(r"[A-Za-z0-9_\-+/=.%~]{20,}")
_TOKEN = (
    r"|(?<![\w-])(?:gh[opsur]_|glpat-|xox[a-z]-|sk-|eyJ)[\w.-]{6,}"
    # Letters and digits that take turns, and base32.
    r"|(?<![A-Za-z0-9])(?=[A-Za-z0-9]{12})[A-Za-z]*+(?:[0-9]++[A-Za-z]++){3,}+[0-9]*+"
    r"|(?<![A-Za-z0-9])(?=[A-Z]*[2-7])[A-Z2-7]{16,}(?![A-Za-z0-9])"
)
_key_prefixes = frozenset({"sk_", "pk_", "whsec_"})
"""What many services' keys begin with, and what declarations have added."""


def register_key_prefixes(prefixes: Iterable[str]) -> None:
    """Take a word for a key from now on, in this process, where it begins so in any case of its letters.

    Args:
        prefixes: Such as ``"acme_"``. Each declaration registers those of its keys.
    """
    global _key_prefixes
    _key_prefixes |= frozenset(prefix.lower() for prefix in prefixes)


@cache
def _token(prefixes: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?i:{'|'.join(map(re.escape, sorted(prefixes)))})\S+{_TOKEN}")


_PEM = re.compile(r"-{4,5} ?BEGIN [A-Z0-9 ]{1,40}-{4,5}.*?(?:-{4,5} ?END [A-Z0-9 ]{1,40}-{4,5}|\Z)")

# --- what a label names ------------------------------------------------------------------------------------------

# In lower case, with "_" for any of "_", "-" and a space.
_LABELS = (
    "token", "secret", "password", "passwd", "pwd", "passphrase", "passcode", "passwort", "credential", "credentials",
    "authorization", "authentication", "bearer", "jwt", "signature", "cookie", "cookies", "key", "mnemonic",
    "seed_phrase", "recovery_phrase", "connection_string", "session_id", "sessionid", "sessid", "access_code",
    "one_time_code", "verification_code", "mfa_code", "recovery_code", "backup_code", "hmac", "pass_word",
    "kennwort", "mot_de_passe", "contraseña", "senha", "пароль", "密码", "密碼", "パスワード",
)  # fmt: skip
# Only as a whole word, since other words end in them; those of the second kind only in an assignment.
_SHORT_LABELS = frozenset(
    {"auth", "otp", "totp", "pin", "cvv", "cvc", "sid", "dsn", "cred", "creds", "sig", "pw", "psw"}
)
_ASSIGNED_LABELS = frozenset({"pass", "session", "sess", "csrf", "xsrf"})
_KEYS_OF_ANOTHER_KIND = tuple(
    f"{kind}{joint}key"
    for joint in ("", "_")
    for kind in (
        "partition", "primary", "foreign", "duplicate", "unique", "missing", "unknown", "sort", "join", "cache",
        "group", "object", "row", "routing", "composite", "mon", "tur", "don", "whis", "hoc", "joc",
    )
)  # fmt: skip
_ENDINGS = ("value", "hash", "base64", "b64", "text", "string", "binary", "data", "hint", "confirmation")
_LONGEST_LABEL = 48

_QUOTE = r"(?:\\{0,4}[\"'`]|&quot;|&#3[49];)"
_CLOSED = rf"(?:{_QUOTE}?[\])]?)(?:\s(?:provided|given|used|supplied|sent|received|was|is))?"
_SIGN = r"(?:[:=\uff1a\ufe55\uff1d→]+|[=-]>|%3[AaDd])"
_NAME = re.compile(rf"(?<![\w-])[\w-]++(?={_CLOSED}\s?{_SIGN}|{_QUOTE},\s?{_QUOTE}value|[\"']\svalue|>)")
# What a label is followed by in a sentence that gives no value.
_NO_VALUE = (
    r"(?!\\?[\"'(<\[]?(?:required|missing|invalid|expired|empty|null|none|undefined|unset|field|must|not|is|was|are|"
    r"cannot|can|has|have|had|does|may|will|should|could|too|incorrect|correct|unknown|true|false|revoked|wrong|denied|"
    r"error|failed|failure|rejected|disabled|enabled|ok|yes|no|and|or|for|in|of|the|a|an|unauthorized|forbidden|"
    r"unexpected|mismatch|verification)(?:[\s\"'`)\]},]|[.;:!?](?:\s|\Z)|\Z))"
)
_QUOTED = "|".join(
    rf"[bruf]{{0,2}}{quote}(?:[^{quote}\\]|\\.)*\S*|\\{{1,4}}{quote}(?:[^{quote}\\]|\\(?![{quote}\\]))*\S*"
    for quote in "\"'`"
)
_VALUE = re.compile(
    rf"(?:{_CLOSED}\s?{_SIGN}\s?"
    # {"name": "token", "value": "x"}, <input name="token" value="x">, and <token>x</token> or token->x.
    rf"|{_QUOTE},\s?{_QUOTE}value{_QUOTE}\s?:\s?|[\"']\svalue\s?=\s?|>(?=[^\s<>]))"
    rf"{_NO_VALUE}(?:[\"']?(?:bearer|basic|digest|token|negotiate|ntlm|apikey|hmac|key|aws4-hmac-sha256)\s(?=\S))?"
    rf"{_NO_VALUE}(?:{_QUOTED}|[|>][+-]?\s\S+|\S+)"
    # The parameters of a digest or a signature, and further cookies.
    r"(?:(?<=[,;])\s?[\w.-]+=(?:\"[^\"]*\")?\S*)*",
    re.IGNORECASE,
)
_PAIR = re.compile(
    r"\(\s?[bu]?[\"'][\w-]{0,40}?(?:token|secret|password|key|authorization|cookie)[\"'],\s?[bu]?[\"'][^\"']*+\S*",
    re.IGNORECASE,
)
_MIXED = r"(?=[^\s\"'`]*[0-9])(?=[^\s\"'`]*[A-Za-z])[^\s\"'`]"
# Where the words around a value can stay.
_SPOKEN = re.compile(
    r"((?:\b|(?<=_))(?:token|secret|password|passwd|passphrase|passcode|pwd|key)(?:\s(?:is|was|of|for))?\s[\"'`]?)"
    rf"{_MIXED}{{6,}}"
    r"|(\b(?:password|passwd|passphrase|passcode|pwd)\s[\"'`])[^\s\"'`]{3,}(?=[\"'`])"
    r"|((?<![\w-])--?[\w-]{0,40}?(?:token|secret|password|passwd|pwd|pass|key)\s)(?!-)\S+"
    r"|((?<![\w-])(?:-u|--user)\s)[^\s:]+:\S+"
    rf"|(\b(?:digest|token|negotiate|ntlm|apikey|hmac)\s){_MIXED}{{4,}}"
    r"|((?-i:\b(?:Digest|Token|Basic))\s)(?!(?:is|was|not|has|for|and|the|may|can|in|of|to|at|by|or|on|as|no|id)\b)"
    r"(?-i:[a-z0-9]{1,3}(?![\w-]))"
    r"|(\b(?:mnemonic|(?:seed|recovery)\s(?:phrase|words?))(?:\sis|\swas)?\s?:?\s[\"'`]?)"
    r"(?:[a-z]{3,8}[\s,]{1,2}){5,23}[a-z]{3,8}",
    re.IGNORECASE,
)
_SCHEME = re.compile(
    r"\bdigest\s[\w-]+=\S+(?:(?<=,)\s?[\w.-]+=(?:\"[^\"]*\")?\S*)*|"
    r"\b(?:bearer|basic)\s(?=\S*(?:[0-9+/=_]|(?-i:[a-z][A-Z])))\S+"
    rf"|\bbearer\s{_NO_VALUE}(?!(?:auth\w*|tokens?|scheme|realm|header|format|type|mode|credentials?)(?![\w-]))\S+",
    re.IGNORECASE,
)
_PLAIN = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST}}}")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_TOKEN_IN_CODE = re.compile(r"(?=[A-Za-z]*\d)[A-Za-z0-9]{12,}")


def clean(text: object, *secrets: str | Secret) -> str | None:
    """One line of at most 200 characters without URLs, e-mail addresses, tokens, what a label calls secret, or
    control characters.

    Args:
        text: What the provider wrote; anything but a string with words in it gives None.
        secrets: Texts that must not appear whatever they look like, such as the credential in use.
    """
    if not isinstance(text, str):
        return None
    line, whole = _window(text, [Secret(secret) for secret in secrets])
    line = _SPOKEN.sub(_keep_words, _PEM.sub(MASK, line))
    # A label names its value as it came, so it is looked for before parts of the value are gone.
    line = _without_labelled(line)
    for pattern in (_PAIR, _SCHEME, _ADDRESS, _LONG_TOKEN, _token(_key_prefixes)):
        line = pattern.sub(MASK, line)
    return cut(line, whole=whole) if line else None


def shown(text: str) -> str:
    """An id or a name, at most 200 characters: without addresses, and cleaned like free text where it has spaces."""
    if _PLAIN.fullmatch(text):
        # As most are, and a body has many of them: there is nothing to look for.
        return text
    line, whole = _window(text, [])
    if " " in line:
        return clean(text) or ""
    return cut(_ADDRESS.sub(MASK, _without_labelled(line)), whole=whole)


def code(value: object, *secrets: str | Secret) -> str | None:
    """A provider's error code, if it looks like one: a short word, never free text and never with a secret in it."""
    if not isinstance(value, str) or not _CODE.fullmatch(value) or _TOKEN_IN_CODE.search(value):
        return None
    return value if all(Secret(secret).removed_from(value) == value for secret in secrets) else None


def cut(line: str, *, whole: bool = True) -> str:
    """At most 200 characters of a line, with an ellipsis where more was there."""
    if whole and len(line) <= LONGEST:
        return line
    return line[: LONGEST - 1].rstrip() + "…"


def _window(text: str, secrets: list[Secret]) -> tuple[str, bool]:
    """The part of a text that is looked at, as one line without the secrets, and whether that is all of it."""
    beyond = max((secret.longest_spelling for secret in secrets), default=0)
    line = text[: WINDOW + beyond]
    for secret in secrets:
        line = secret.removed_from(line)
    whole = len(text) <= WINDOW + beyond
    if not whole:
        # What the end has cut off may have begun as a secret, and is then too short to be known as one.
        line = line[: len(line) - beyond]
        kept, last = line[:-LONGEST_WORD], line[-LONGEST_WORD:]
        line = kept + "".join(last.rpartition(" ")[:1])
    if not line.isprintable():
        line = "".join(character if character.isprintable() else " " for character in line)
    return " ".join(line.split()), whole


def _without_labelled(line: str) -> str:
    parts: list[str] = []
    done = 0
    for name in _NAME.finditer(line):
        if name.start() < done:
            continue
        words = line[max(name.end() - _LONGEST_LABEL, done) : name.end()]
        if not _is_label(_normal(words), _normal(name[0]), line[name.end()]):
            continue
        value = _VALUE.match(line, name.end())
        if value is not None:
            parts += [line[done : name.start()], MASK]
            done = value.end()
    return "".join([*parts, line[done:]])


def _normal(words: str) -> str:
    return words.lower().replace("-", "_").replace(" ", "_").rstrip("0123456789_")


def _is_label(words: str, name: str, follows: str) -> bool:
    """Whether a name says that a secret follows.

    Args:
        words: The name and what stands before it.
        name: The name alone.
        follows: The character after it.
    """
    for ending in _ENDINGS:
        words = words.removesuffix(ending).rstrip("_")
    if words.endswith(_LABELS):
        return not words.endswith(_KEYS_OF_ANOTHER_KIND)
    last = name.rpartition("_")[2]
    if last in _ASSIGNED_LABELS:
        return follows in "=\"'" or name.endswith("_pass")
    return last in _SHORT_LABELS


def _keep_words(match: re.Match[str]) -> str:
    return (match[match.lastindex or 0] or "") + MASK
