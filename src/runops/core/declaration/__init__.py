"""What a provider is, as one value that is checked when it is made; and all that the file of a provider imports."""

from runops.core.declaration.address import caseless, uuid
from runops.core.declaration.arguments import (
    json_object,
    json_objects,
    one_of,
    optional_text,
    positive,
    required_text,
    texts,
)
from runops.core.declaration.body import Count, Flag, Lenient, Moment, Number, Part, RunBody, Text, detail
from runops.core.declaration.decode import validated
from runops.core.declaration.provider import Provider
from runops.core.declaration.routes import BEARER, AuthScheme, Call, Explanation, Listing, Route, Submission

__all__ = [
    "BEARER",
    "AuthScheme",
    "Call",
    "Count",
    "Explanation",
    "Flag",
    "Lenient",
    "Listing",
    "Moment",
    "Number",
    "Part",
    "Provider",
    "Route",
    "RunBody",
    "Submission",
    "Text",
    "caseless",
    "detail",
    "json_object",
    "json_objects",
    "one_of",
    "optional_text",
    "positive",
    "required_text",
    "texts",
    "uuid",
    "validated",
]
