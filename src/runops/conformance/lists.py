"""Checks of a declared list: what each page shows, where the next one is, and where the list ends."""

from __future__ import annotations

from collections.abc import Iterator

from runops.conformance.answers import RecordedAnswer
from runops.conformance.facts import Facts, names_of
from runops.conformance.report import Finding, said_in
from runops.core.declaration import Page, Request
from runops.core.model.codes import text_of
from runops.core.model.errors import MalformedAnswer, RunNotFound, RunopsError
from runops.core.waiting.listing import listed
from runops.core.waiting.steps import Ended, Send, step

Found = Iterator[Finding]


def lists(facts: Facts) -> Found:
    """Each page shows the runs of its parent as read_as says, and leads to the next one, the last to none."""
    if facts.provider.listing is None:
        return
    pages = [each for each in facts.of("list", ok=True) if facts.ids(each) is not None]
    for number, answer in enumerate(pages):
        parent = facts.parent(answer)
        if len(parent) != 1 or not set(parent) <= set(facts.provider.listing.parent_kinds):
            known = ", ".join(facts.provider.listing.parent_kinds)
            problem = f"are {known}, and the answer is about {', '.join(parent) or 'no parent'}"
            advice = "Add read_as.parent, or name the parent that the service lists runs by"
            yield Finding("lists", "listing.parent_kinds", problem, advice, answer.file)
            continue
        yield from _page(facts, answer, parent)
        yield from _next(facts, answer, parent, pages, number)
    yield from _read_through(facts, pages)
    for answer in facts.of("latest", ok=True):
        if facts.ids(answer) is not None:
            yield from _latest(facts, answer)


def _read_through(facts: Facts, pages: list[RecordedAnswer]) -> Found:
    """The whole list of a parent, as a search reads it: page by page, as each request is answered in the folder."""
    parents = [facts.parent(each) for each in pages]
    if not pages or pages[-1].read_as.more is not False or any(each != parents[0] for each in parents):
        return
    flow, turned = listed(facts.provider, parents[0], since=0.0), 0
    effect = step(flow)
    while isinstance(effect, Send):
        page = _page_for(effect.request, pages, turned)
        turned += 1
        missing = RunNotFound("The folder has no such page.", status=404)
        effect = step(flow, page.content) if page else step(flow, error=missing)
    wanted = [run.run_id for each in pages for run in each.read_as.runs or ()]
    found = [run.ref.run_id for run in effect.result.runs] if isinstance(effect, Ended) else []
    if found != wanted:
        problem = (
            f"read to its end, the list shows {len(found)} runs of this parent in {turned} pages, and not {len(wanted)}"
        )
        advice = "Mend paging, parameter, next and page_size, so that the requests are those of the folder"
        yield Finding("lists", "listing.paging", problem, advice, pages[-1].file)


def _page_for(request: Request, pages: list[RecordedAnswer], turned: int) -> RecordedAnswer | None:
    """What a request for a page is answered; where it goes to an address that the page before names, the next one."""
    if request.url or request.json is not None:
        return pages[turned] if turned < len(pages) else None
    sent = {name: str(value) for name, value in request.query.items()}
    same = [each for each in pages if each.request.path == request.path and each.request.query == sent]
    return same[0] if same else None


def _page(facts: Facts, answer: RecordedAnswer, parent: dict[str, str]) -> Found:
    try:
        page = facts.provider.pages.read(answer.content, parent)
    except MalformedAnswer as error:
        wanted = "listing.items" if "array" in text_of(error) else "body"
        array = wanted != "body"
        advice = "Write the keys that lead to the array of runs" if array else "Mend the body for entries too"
        yield Finding("lists", wanted, f"cannot read the page: {said_in(error)}", advice, answer.file)
        return
    except RunopsError as error:
        problem, advice = said_in(error), "Declare the field of the parent, or override belongs_to"
        yield Finding("lists", "listing.parent_kinds", problem, advice, answer.file)
        return
    yield from _runs(answer, page)
    if page.unread:
        problem = f"cannot read {len(page.unread)} of the entries"
        yield Finding("lists", "body", problem, "Require id and status only; all else may be missing", answer.file)
    yield from _parent_of(facts, answer, page, parent)


def _runs(answer: RecordedAnswer, page: Page) -> Found:
    found = [(each.snapshot.ref.run_id, each.snapshot.status.value) for each in page.observations]
    wanted = [(run.run_id, (run.outcome or run.phase)) for run in answer.read_as.runs or ()]
    if [run_id for run_id, _ in found] != [run_id for run_id, _ in wanted]:
        problem = f"finds {len(found)} runs of this parent, and read_as names {len(wanted)}, in this order"
        advice = "Set filtered=True where the page holds the runs of others too, and read the parent of each run"
        yield Finding("lists", "listing", problem, advice, answer.file)
        return
    for (run_id, status), (_, meaning) in zip(found, wanted, strict=True):
        if meaning is not None and meaning.value != status:
            problem = f"the entry {run_id} is read as {status}, and read_as says {meaning}"
            yield Finding("lists", "states", problem, "Mend the word, or read_as.runs", answer.file)


def _parent_of(facts: Facts, answer: RecordedAnswer, page: Page, parent: dict[str, str]) -> Found:
    listing = facts.provider.listing
    if listing is None or listing.parent_detail is None:
        return
    named = {each.snapshot.details.get(listing.parent_detail) for each in page.observations} - {None}
    if page.observations and not named & set(parent.values()):
        problem = f"{listing.parent_detail!r} names no parent of the runs on this page"
        yield Finding("lists", "listing.parent_detail", problem, "Name the detail that holds it", answer.file)


def _next(
    facts: Facts, answer: RecordedAnswer, parent: dict[str, str], pages: list[RecordedAnswer], number: int
) -> Found:
    listing = facts.provider.listing
    assert listing is not None
    if answer.read_as.more is None:
        return
    try:
        following = facts.provider.pages.next_request(parent, number + 1, answer.content)
    except RunopsError as error:
        yield Finding(
            "lists",
            "listing.next",
            f"cannot be read: {said_in(error)}",
            "Write the keys to it",
            answer.file,
        )
        return
    if not listing.follows:
        short = listing.page_size is not None and len(answer.read_as.runs or ()) < listing.page_size
        ends = listing.paging is None or listing.page_size is None or (short and not listing.filtered)
        if answer.read_as.more and ends:
            problem = "would stop at this page, and read_as says that another one comes"
            advice = "Set paging and the page_size that the service sends"
            yield Finding("lists", "listing.page_size", problem, advice, answer.file)
        return
    if answer.read_as.more and following is None:
        problem = f"{listing.next} leads nowhere, so the list would end here, and another page comes"
        yield Finding("lists", "listing.next", problem, "Write the keys that lead to the next one", answer.file)
    elif not answer.read_as.more and following is not None:
        problem = "leads to a further page, and this is the last one"
        yield Finding("lists", "listing.next", problem, "Write the keys that are empty on the last page", answer.file)
    elif following is not None and number + 1 < len(pages) and facts.parent(pages[number + 1]) == parent:
        yield from _turned(following, answer, pages[number + 1])


def _turned(following: Request, answer: RecordedAnswer, page: RecordedAnswer) -> Found:
    if following.url or following.json is not None:
        return
    sent = {name: str(value) for name, value in following.query.items()}
    if sent != page.request.query:
        problem = f"the next page would be asked for by {sent}, and {page.file} was by {page.request.query}"
        yield Finding("lists", "listing.parameter", problem, "Name the parameter that the service takes", answer.file)


def _latest(facts: Facts, answer: RecordedAnswer) -> Found:
    try:
        seen = facts.provider.pages.read_latest(answer.content, facts.parent(answer))
    except RunopsError as error:
        if answer.read_as.error not in names_of(error):
            problem = f"cannot be read: {said_in(error)}"
            yield Finding("lists", "listing.latest", problem, "Leave it out, or mend the body", answer.file)
        return
    if answer.meaning is not None and seen.snapshot.status is not answer.meaning:
        problem = f"is read as {seen.snapshot.status}, and read_as says {answer.meaning}"
        yield Finding("lists", "listing.latest", problem, "Mend the word, or read_as", answer.file)
