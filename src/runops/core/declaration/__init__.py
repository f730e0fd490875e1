"""What a provider is, as one value that is checked when it is made: the names that other folders import."""

from runops.core.declaration.address import caseless, check_id, uuid
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
from runops.core.declaration.decode import Observation, validated
from runops.core.declaration.pages import Page
from runops.core.declaration.provider import Provider
from runops.core.declaration.routes import (
    BEARER,
    AuthScheme,
    Call,
    Explanation,
    Listing,
    Request,
    Retry,
    Route,
    Spend,
    Submission,
    bearer,
)

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
    "Observation",
    "Page",
    "Part",
    "Provider",
    "Request",
    "Retry",
    "Route",
    "RunBody",
    "Spend",
    "Submission",
    "Text",
    "bearer",
    "caseless",
    "check_id",
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
