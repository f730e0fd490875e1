"""Times as services write them: ISO 8601, unix seconds and smaller units, mail and web dates, names of time zones."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, tzinfo
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

UNREADABLE = datetime.max.replace(tzinfo=UTC)
"""Stands for a time that is given and cannot be read: it says that something happened, and not when."""
FIRST_YEAR = 1971
"""Before it lie the zero times of many systems, which mean "not yet"."""
LAST_YEAR = 9000
"""From it on lie the times that mean "never"."""

_NOT_YET = frozenset({"", "null", "none", "nil", "undefined", "false", "na", "n/a", "nan", "nat", "never", "infinity"})
_LONGEST = 100
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{0,12})?", re.ASCII)
_DATE = re.compile(r"(?:19|20)\d{6}", re.ASCII)
_CALENDAR = re.compile(r"(?:19|20)\d{12}", re.ASCII)
_MAIL = re.compile(
    r"(?:[A-Z][a-z]{2,8},? )?"
    r"(?:\d{1,2}[ -][A-Z][a-z]{2}[ -](\d{4}|\d\d) \d\d:\d\d(?::\d\d)?(?: ([A-Z]{1,5}|[+-]\d{4}))?"
    r"|[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d (\d{4}))",
    re.ASCII,
)
_ZONED = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?) *([+-]\d\d:?\d\d)? *\[?([A-Za-z][A-Za-z0-9_+/-]{0,40})?\]?",
    re.ASCII,
)


def moment(value: object) -> datetime | None:
    """A time in UTC; None where there is none yet, and :data:`UNREADABLE` where there is one that cannot be read.

    Args:
        value: As it came. Numbers are seconds, milli-, micro- or nanoseconds since 1970, by their size. A time
            without a zone is in UTC. Absent and empty values, zeros, dashes, words such as ``null`` and times before
            1971 or after 8999 all mean "not yet".
    """
    if isinstance(value, str):
        text = value.strip()
        return None if _is_placeholder(text) else _in_use(_read(text))
    if isinstance(value, (bool, int, float)):
        return UNREADABLE if value is True else _in_use(_unix(value))
    return UNREADABLE if value else None


def _is_placeholder(text: str) -> bool:
    if "1" <= text[:1] <= "8":
        # What begins like most times is none of what follows.
        return False
    # A zero in any form, 0000-00-00T00:00:00 too, is no time; neither is a mere dash, or the end of the calendar.
    return (
        text.lower() in _NOT_YET
        or text.startswith("9999-")
        or not re.search(r"[^\W0_]", text.rstrip("Zz").replace("T", ""))
    )


def _in_use(found: datetime | None) -> datetime | None:
    if found is None:
        return UNREADABLE
    return found if FIRST_YEAR <= found.year < LAST_YEAR else None


def _read(text: str) -> datetime | None:
    if len(text) > _LONGEST:
        return None
    if _CALENDAR.fullmatch(text):
        text = f"{text[:8]}T{text[8:]}"
    elif _NUMBER.fullmatch(text) and not _DATE.fullmatch(text):
        return _unix(float(text))
    for read in (datetime.fromisoformat, _zoned, _mail):
        try:
            found = read(text)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except OverflowError:
            # At either end of the calendar, where a zone leads out of it: a zero time or one that never comes.
            return datetime.min.replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _unix(value: float) -> datetime | None:
    if not math.isfinite(value):
        return datetime.min.replace(tzinfo=UTC)
    for unit in (1, 1e3, 1e6, 1e9):
        if abs(value) / unit < 1e10:
            return datetime.fromtimestamp(max(value / unit, 0.0), UTC)
    return None


def _zoned(text: str) -> datetime:
    """An ISO time with the name of a zone, beside an offset or in its place."""
    found = _ZONED.fullmatch(text)
    if found is None:
        raise ValueError("no such time")
    clock, offset, name = found.groups()
    if offset:
        return datetime.fromisoformat(f"{clock}{offset}")
    return datetime.fromisoformat(clock).replace(tzinfo=_zone(name))


def _mail(text: str) -> datetime:
    """A date of RFC 9110 or RFC 5322; a zone of which the offset is not known makes it unreadable."""
    found = _MAIL.fullmatch(text)
    if found is None:
        raise ValueError("no such date")
    year, zone, last_year = found.groups()
    if int(year or last_year) < FIRST_YEAR and len(year or last_year) == 4:
        return datetime.min.replace(tzinfo=UTC)
    read = parsedate_to_datetime(text)
    if read.tzinfo is None and zone not in (None, "-0000"):
        raise ValueError("no such zone")
    return read


def _zone(name: str) -> tzinfo:
    if name.upper() in ("UTC", "GMT", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError("no such zone") from None
