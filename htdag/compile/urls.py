"""The states of URLs that jobs read, which tell a later run whether their contents have changed."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from htdag.common.text import counted
from htdag.compile.file_flow import FileFlow
from htdag.plan import Plan

_SCHEMES = ("http", "https")
_TIMEOUT = 5.0
_AT_ONCE = 20
_MOST_FAILURES = 3
"""A host that could not be reached this often is not asked again."""

_SETTLED = 2.0
"""Seconds after which another change of a file certainly has another time."""


@dataclass(frozen=True)
class KeptStates:
    """The states of URLs in an earlier run, and the stages for which they remain valid.

    Attributes
    ----------
    states : mapping
        The state of each URL.
    stages : collection of str, optional
        Stages whose finished items are kept; None for all.
    """

    states: Mapping[str, str]
    stages: Collection[str] | None


NOTHING_KEPT = KeptStates({}, ())


@dataclass(frozen=True)
class UrlStates:
    """The states of the URLs of a plan.

    Attributes
    ----------
    states : dict of str to str
        For each URL, a text that changes with its content; if that is unknown, a unique text.
    unknown : dict of str to str
        By node, a text about URLs whose state is unknown.
    """

    states: dict[str, str]
    unknown: dict[str, str]


def of_plan(plan: Plan, flows: Mapping[str, FileFlow], kept: KeptStates) -> UrlStates:
    """Return the states of the URLs that a plan reads, without loops, which reuse nothing."""
    reading = list(_reading(plan, flows))
    answers = ask({url for _, _, urls in reading for url in urls})
    readers: dict[str, set[str]] = {}
    for _, stages, urls in reading:
        for url in urls:
            readers.setdefault(url, set()).update(stages)
    states = {}
    for url, answer in answers.items():
        states[url] = answer.state or f"unknown {uuid.uuid4().hex}"
        if answer.problem and (kept.stages is None or readers[url] <= set(kept.stages)):
            states[url] = kept.states.get(url, states[url])
    unknown: dict[str, str] = {}
    for node, _, urls in reading:
        unanswered = sorted(url for url in urls if answers[url].problem)
        if unanswered:
            names = sorted(set[str]().union(*(readers[url] for url in unanswered)))
            unknown[node] = _text(unanswered, answers[unanswered[0]].problem, names)
    return UrlStates(states, unknown)


def _reading(plan: Plan, flows: Mapping[str, FileFlow]) -> Iterator[tuple[str, list[str], Any]]:
    """Yield nodes, some of their stages, and the URLs that these read."""
    sources = {stored.stage: stored.source for stored in plan.sources}
    for node in plan.nodes:
        if node.input.source is not None:
            sources[node.input.stage] = node.input.source
        urls = {each["url"] for each in flows[node.name].inputs if "url" in each}
        if urls:
            yield node.name, list(node.stages[:1]), urls
    of_stage = {stage: node.name for node in plan.nodes for stage in node.stages}
    for name, source in sources.items():
        if source.travelling.urls:
            stages = list(plan.stages.successors(name))
            for node_name in dict.fromkeys(of_stage[s] for s in stages if s in of_stage):
                readers = [stage for stage in stages if of_stage.get(stage) == node_name]
                yield node_name, readers, source.travelling.urls


def _text(urls: list[str], why: str, stages: list[str]) -> str:
    more = len(urls) - 1
    of = f"{urls[0]} and {counted(more, 'other URL')} have" if more else f"{urls[0]} has"
    return f"it is unknown whether {of} changed ({why}); keep_finished={stages!r} keeps it"


@dataclass(frozen=True)
class Answer:
    """The answer of a server about a URL: its state, or why that is unknown."""

    state: str = ""
    problem: str = ""


def ask(urls: Collection[str]) -> dict[str, Answer]:
    """Return the answers of servers about URLs; at most 20 are asked at once."""
    if not urls:
        return {}
    from concurrent.futures import ThreadPoolExecutor  # late, since few pipelines need it

    failures: Counter[str] = Counter()
    ordered = sorted(urls)
    with ThreadPoolExecutor(min(_AT_ONCE, len(ordered))) as pool:
        answers = pool.map(lambda url: _ask_one(url, failures), ordered)
        return dict(zip(ordered, answers, strict=True))


def _ask_one(url: str, failures: Counter[str]) -> Answer:
    import http.client
    import urllib.request

    parts = urlsplit(url)
    if parts.scheme.lower() not in _SCHEMES:
        return Answer(problem=f"{parts.scheme} cannot be asked")
    if failures[parts.netloc] >= _MOST_FAILURES:
        return Answer(problem="its server could not be reached")
    problem = ""
    for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
        request = urllib.request.Request(url, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                state = _state(response.status, response.headers)
        except urllib.request.HTTPError as error:
            error.close()
            problem = f"the server answers: {error.code} {error.reason}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures[parts.netloc] += 1
            reason = getattr(error, "reason", error)
            return Answer(problem=f"its server could not be reached: {reason}")
        else:
            if state:
                return Answer(state)
            problem = (
                "the server sends neither an ETag nor a time of the last change that is long ago"
            )
    return Answer(problem=problem)


def _state(status: int, headers: Message) -> str:
    """Return a text that changes with the content of a URL; "" if the server sends none."""
    tag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    if not tag and not _is_settled(modified, headers.get("Date")):
        return ""  # it may change again within the same second, and a length does not suffice
    length = headers.get("Content-Length", "")
    if status == HTTPStatus.PARTIAL_CONTENT:
        length = headers.get("Content-Range", "").rpartition("/")[2]
    return json.dumps([tag, modified, length])


def _is_settled(modified: str, date: str | None) -> bool:
    import email.utils

    try:
        changed = email.utils.parsedate_to_datetime(modified).timestamp()
        now = email.utils.parsedate_to_datetime(date).timestamp() if date else time.time()
    except (TypeError, ValueError):
        return False
    return now - changed >= _SETTLED
