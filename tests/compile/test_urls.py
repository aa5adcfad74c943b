"""Reuse of what was made from URLs: only where the server says that it has the same today."""

from __future__ import annotations

import email.utils
import http.server
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import htdag
from htdag.compile import urls

if TYPE_CHECKING:
    from collections.abc import Iterator


class Site:
    """A server: what it has by path, how it tells that, and who asked."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.says: set[str] = {"HEAD", "ETag"}
        self.age = 100.0
        self.asked: Counter[str] = Counter()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = site.pages[self.path]
                site.asked[self.command] += 1
                partly = "Range" in self.headers
                refused = self.command == "HEAD" and "HEAD" not in site.says
                self.send_response(403 if refused else 206 if partly else 200)
                self.send_header("Content-Length", "1" if partly else str(len(page)))
                if partly:
                    self.send_header("Content-Range", f"bytes 0-0/{len(page)}")
                if "ETag" in site.says:
                    self.send_header("ETag", f'"{hash(page):x}"')
                if "Last-Modified" in site.says:
                    changed = time.time() - site.age
                    self.send_header("Last-Modified", email.utils.formatdate(changed, usegmt=True))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(page[:1].encode() if partly else page.encode())

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    made.pages = {f"/{name}": f"{name} at first" for name in ("a", "b", "c")}
    yield made
    made.close()


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return tmp_path / "calls"


def flow(site: Site, calls: Path, names: str = "ab") -> htdag.Pipeline:
    def read(path: Path) -> str:
        with calls.open("a") as file:
            file.write(path.name)
        return path.read_text()

    pages = htdag.files([site.url(name) for name in names], name="pages")
    return htdag.Pipeline(pages.map(read, name="read"))


def again(pipeline: htdag.Pipeline, calls: Path, **options: Any) -> tuple[Any, str]:
    """Run with resume=True; return the result, and which pages were read anew."""
    calls.write_text("")
    run = pipeline.submit("t", on="local", resume=True, **options).wait(timeout=60)
    return run.result(), "".join(sorted(calls.read_text()))


def test_what_a_server_changed_is_computed_anew_and_the_rest_is_not(site: Site, calls: Path):
    assert again(flow(site, calls), calls) == (["a at first", "b at first"], "ab")
    assert again(flow(site, calls), calls) == (["a at first", "b at first"], "")
    site.pages["/b"] = "b later"
    assert again(flow(site, calls, "cba"), calls)[0] == ["c at first", "b later", "a at first"]
    assert sorted(calls.read_text()) == ["b", "c"]
    # HEAD is enough, and one for each URL and submit; a job gets the page.
    assert site.asked == {"HEAD": 2 + 2 + 3, "GET": 4}
    site.says = {"ETag"}  # and no HEAD: a GET of one byte says the same
    assert again(flow(site, calls, "cba"), calls)[1] == ""


def test_what_nobody_can_tell_is_computed_anew_and_said(
    site: Site, calls: Path, capsys: pytest.CaptureFixture[str]
):
    site.says = {"HEAD"}  # a length alone tells nothing
    again(flow(site, calls), calls)
    told = (
        f"it is unknown whether {site.url('a')} and 1 other URL have changed (the server sends "
        f"neither an ETag nor a time of the last change that is long ago); keep_finished=['read'] "
        f"keeps it"
    )
    explained = flow(site, calls).explain("local", tag="t")
    assert told in " ".join(explained.split())
    site.pages["/a"] = "A AT FIRST"
    capsys.readouterr()
    assert again(flow(site, calls), calls) == (["A AT FIRST", "b at first"], "ab")
    assert told in capsys.readouterr().err
    for keep in (["read"], True):
        assert again(flow(site, calls), calls, keep_finished=keep)[1] == ""
    assert "done already" in capsys.readouterr().err
    site.says = {"HEAD", "ETag"}
    # Known now: but what the run had then is not.
    assert again(flow(site, calls), calls)[1] == "ab"


def test_a_server_that_is_away_keeps_nothing_but_what_is_said_to_be_kept(calls: Path):
    site = Site()
    site.pages = {"/a": "a"}
    try:
        again(flow(site, calls, "a"), calls)
    finally:
        site.close()
    assert again(flow(site, calls, "a"), calls, keep_finished=["read"]) == (["a"], "")
    explained = " ".join(flow(site, calls, "a").explain("local", tag="t").split())
    assert "has changed (its server could not be reached: [Errno " in explained


def test_the_cache_and_input_files_ask_too(site: Site, calls: Path):
    def read(_: int) -> str:
        with calls.open("a") as file:
            file.write("x")
        return Path("page").read_text()

    def run() -> tuple[Any, str]:
        calls.write_text("")
        stage = htdag.map(read, [1], name="read", input_files={"page": site.url("a")}, cache=True)
        found = htdag.Pipeline(stage).submit(on="local").wait(timeout=60).result()
        return found, calls.read_text()

    assert run() == (["a at first"], "x")
    assert run() == (["a at first"], "")
    site.pages["/a"] = "a later"
    assert run() == (["a later"], "x")
    site.says = {"HEAD"}
    assert run() == (["a later"], "x")
    assert run() == (["a later"], "x")


def test_urls_in_bound_values_and_passed_on(site: Site, calls: Path):
    def pair(number: int, page: Path) -> Path:
        with calls.open("a") as file:
            file.write("p")
        return page

    def read(path: Path) -> str:
        with calls.open("a") as file:
            file.write("r")
        return path.read_text()

    def made() -> htdag.Pipeline:
        page = htdag.files([site.url("a")]).reduce(lambda one, other: one, name="page")
        both = htdag.map(pair, [1], bind={"page": page}, name="pair")
        return htdag.Pipeline(both.map(read, name="read", fuse=False))

    assert again(made(), calls) == (["a at first"], "pr")
    site.pages["/a"] = "a later"
    assert again(made(), calls) == (["a later"], "pr")


def test_what_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch):
    def problem(url: str) -> str:
        return urls.ask([url])[url].problem

    site.says = {"HEAD", "Last-Modified"}
    assert problem(site.url("a")) == ""
    site.age = 0.5  # it may change again, and say the same time
    assert problem(site.url("a")).startswith("the server sends neither")
    assert problem("osdf:///ospool/a") == "osdf cannot be asked"
    assert problem("file:///etc/hostname") == "file cannot be asked"
    site.pages["/a"], site.says = "other", set()
    assert problem(site.url("a")).startswith("the server sends neither")
    # A host that is away is not asked for each of its URLs.
    opened = []

    def away(request: Any, timeout: float) -> Any:
        opened.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(urllib.request, "urlopen", away)
    many = urls.ask([f"http://away.example/{number}" for number in range(200)])
    assert all("could not be reached" in answer.problem for answer in many.values())
    assert len(opened) < 25
