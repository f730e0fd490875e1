"""Checks of the parts of a declaration against each other, so that what can never work is refused as it is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from runops.core.declaration import checks
from runops.core.declaration.body import RunBody
from runops.core.declaration.routes import AuthScheme, Listing, Route, Spend, Submission


def check_options(owner: str, options: Mapping[str, str], auth: AuthScheme) -> None:
    """Settings that are sent as headers.

    Raises:
        ConfigurationError: No header can be called so, or the key is sent in it.
    """
    for name, header in options.items():
        checks.header(owner, f"options[{name!r}]", header)
        if header.lower() == auth.header.lower():
            raise checks.wrong(owner, f"options[{name!r}]", header, "is the header of the key", "name another header")


def check_trace_header(owner: str, header: str | None, options: Mapping[str, str], auth: AuthScheme) -> None:
    """The header that takes the id of a trace.

    Raises:
        ConfigurationError: No header can be called so, or something else is sent in it.
    """
    if header is None:
        return
    checks.header(owner, "trace_header", header)
    if header.lower() in {each.lower() for each in (auth.header, *options.values())}:
        raise checks.wrong(owner, "trace_header", header, "is the header of something else", "name another header")


def check_body(owner: str, body: type[RunBody], submission: Submission | None) -> None:
    """The fields that people see, and the one that a submit marks.

    Raises:
        ConfigurationError: The body has no such field.
    """
    for name in body.DETAILS:
        if name not in body.model_fields and not hasattr(body, name):
            raise checks.wrong(owner, "body.DETAILS", name, f"is no field of {body.__name__}", "declare the field")
    if submission is not None and submission.mark not in (None, *body.model_fields):
        raise checks.wrong(
            owner,
            "submit.mark",
            submission.mark,
            f"is no field of {body.__name__}, so no run shows it again",
            "name a field of the body, or leave it out",
        )


def check_spend(owner: str, spend: Spend, body: type[RunBody]) -> None:
    """What a run spends.

    Raises:
        ConfigurationError: It is read from no detail, or from one that the body lacks.
    """
    checks.spelled(owner, "spend.unit", spend.unit, r"\S(.*\S)?", "what is spent, such as USD")
    checks.keys(owner, "spend.details", spend.details)
    kinds = body.detail_kinds()
    for name in spend.details:
        if kinds is not None and kinds.get(name) not in ("number", "any"):
            problem, advice = f"is no number among the details of {body.__name__}", "name a field of its DETAILS"
            raise checks.wrong(owner, "spend.details", name, problem, advice)


def check_routes(owner: str, routes: Mapping[str, Route | None], ids: Collection[str], probe: Route) -> None:
    """Routes about a run, by the field that declares each, and the one that proves a key.

    Raises:
        ConfigurationError: The status names no run, or a hole is filled by none of the ids of a run.
    """
    for name, route in routes.items():
        if route is not None:
            checks.holes(owner, name, route.path, ids)
    status = routes["status"]
    if status is not None and "run_id" not in status.holes:
        raise checks.wrong(owner, "status", status.path, "names no run", "put {run_id} where the id stands")
    checks.holes(owner, "probe", probe.path, ())


def check_act(owner: str, name: str, route: Route | None) -> None:
    """A route by which a run is acted on.

    Raises:
        ConfigurationError: It names no run, or its method changes nothing.
    """
    if route is None:
        return
    if "run_id" not in route.holes:
        raise checks.wrong(owner, name, route.path, "names no run", "put {run_id} where the id stands")
    if route.method == "GET":
        raise checks.wrong(owner, name, f"GET {route.path}", "acts on nothing", "write the method, such as POST")


def check_link(owner: str, link: str, ids: Collection[str], body: type[RunBody]) -> None:
    """The page of a run.

    Raises:
        ConfigurationError: It is no web address, or neither the ids nor the details of a run fill a hole of it.
    """
    checks.spelled(owner, "link", link, r"https?://\S+", "a web address")
    if body.details is RunBody.details:
        checks.holes(owner, "link", link, {*ids, *body.DETAILS})


def check_listing(owner: str, listing: Listing, parents: tuple[str, ...], body: type[RunBody]) -> None:
    """A list of runs, beside the address and the body of a run.

    Raises:
        ConfigurationError: Its parent fills no hole of an address, or is not known of the runs that it shows.
    """
    kinds, named = listing.parent_kinds, ", ".join(listing.parent_kinds)
    checks.holes(owner, "listing.route", listing.route.path, kinds)
    if listing.latest is not None:
        checks.holes(owner, "listing.latest", listing.latest.path, kinds)
    problem = advice = ""
    if (parents or listing.route.holes) and len(kinds) > 1:
        problem, advice = "are several, but each address needs its own", "name one"
    elif parents and parents != kinds:
        problem = f"do not name what the address of a run needs: {', '.join(parents)}"
        advice = "list the runs by that parent, or declare no listing"
    if problem:
        raise checks.wrong(owner, "listing.parent_kinds", kinds, problem, advice)
    if not listing.filtered and not listing.route.holes:
        problem, advice = "shows the runs of all parents alike", f"put {{{named}}} into its path, or set filtered=True"
        raise checks.wrong(owner, "listing.route", listing.route.path, problem, advice)
    if listing.filtered and body.belongs_to is RunBody.belongs_to:
        for kind in kinds:
            if kind not in body.model_fields:
                problem = f"is no field of {body.__name__}, so no run on the list can be known as one of it"
                raise checks.wrong(
                    owner, "listing.parent_kinds", kind, problem, "declare the field, or override belongs_to"
                )
    detail = listing.parent_detail
    if detail is not None and body.details is RunBody.details and detail not in body.DETAILS:
        problem, advice = f"is no detail of {body.__name__}", "add the field to its DETAILS"
        raise checks.wrong(owner, "listing.parent_detail", detail, problem, advice)
