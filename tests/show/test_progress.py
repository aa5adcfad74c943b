"""The display of the progress of a run: lines in pipes, bars in terminals."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from htdag.backends.base import RunState
from htdag.observe.status import StageStatus, Status
from htdag.show import notebook, progress
from htdag.show.bars import bars, jobs_text
from htdag.show.pace import Pace, clock_text, rate_text
from htdag.show.progress import Display, progress_line
from htdag.show.terminal import Frame


def stage(name, node, done=0, total=20, running=0, failed=0, jobs_done=0, jobs=4):
    return StageStatus(name, node, total, done, failed, running, jobs, jobs_done)


def status(*stages, state=RunState.RUNNING, tag="my run", reason="", held=()):
    return Status(tag, state, reason, "local", stages, held, 0.0)


FUSED = (
    stage("simulate", "simulate.even", done=5, running=10, failed=1),
    stage("even", "simulate.even", done=5, running=10, failed=1),
    stage("total", "total", total=None, jobs=1),
)


class Clock:
    """A time that passes only when told."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True

    def fileno(self):
        raise OSError


@pytest.fixture
def terminal(monkeypatch):
    """A function that makes stderr a terminal; pytest takes stderr back after the fixtures."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def make(name="xterm"):
        terminal = Terminal()
        monkeypatch.setenv("TERM", name)
        monkeypatch.setattr(sys, "stderr", terminal)
        return terminal

    return make


def drawn(*stages, width=80, height=24, encoding="utf-8", closed=False, **options):
    frame = Frame()
    frame.take(status(*stages, **options))
    if closed:
        frame.close()
    return [line.plain for line in frame.lines(width, height, encoding)]


# What is shown


def test_fused_stages_share_a_bar():
    first, second = bars(status(*FUSED))
    assert (first.label, first.count, first.failed) == ("simulate + even", "5/20", 1)
    assert (second.label, second.count, second.started) == ("total", "0/?", False)


def test_a_line():
    line = "my run: running: simulate + even 5/20 (1 failed), total 0/?"
    assert progress_line(status(*FUSED)) == line


# Lines


def test_nothing_when_not_shown(capsys):
    with Display(False) as display:
        display.update(status(*FUSED))
    assert capsys.readouterr() == ("", "")


def test_lines_come_at_once_then_now_and_then_and_at_the_end(capsys, clock):
    def lines():
        return capsys.readouterr().err.splitlines()

    with Display(True) as display:
        display.update(status(stage("a", "a")))
        assert lines() == ["my run: running: a 0/20"]
        clock.now += 9
        display.update(status(stage("a", "a", done=1)))
        assert lines() == []
        clock.now += 2
        display.update(status(stage("a", "a", done=2)))
        assert lines() == ["my run: running: a 2/20 (1:39 left)"]
        clock.now += 20
        display.update(status(stage("a", "a", done=2)))
        assert lines() == []
        display.update(status(stage("a", "a", done=20), state=RunState.DONE))
        clock.now += 0.1
    assert lines() == ["my run: done: a 20/20"]


def test_the_last_line_comes_when_something_goes_wrong(capsys, clock):
    with pytest.raises(KeyboardInterrupt), Display(True) as display:  # noqa: PT012
        display.update(status(stage("a", "a")))
        display.update(status(stage("a", "a", done=7)))
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines()[-1] == "my run: running: a 7/20"


def test_no_status_no_line(capsys):
    with Display(True):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["dumb", ""])
def test_a_terminal_that_cannot_draw_gets_lines(terminal, name):
    stderr = terminal(name)
    with Display(True) as display:
        display.update(status(*FUSED))
    assert "\x1b" not in stderr.getvalue()
    assert stderr.getvalue().startswith("my run: running: ")


# Bars


def test_bars_to_scale():
    head, first, second = drawn(*FUSED, width=100)
    assert head == "my run: running on this machine, 0:00; jobs: 5 waiting"
    assert first.startswith("simulate + even  " + "━" * 10 + "\N{MULTIPLICATION SIGN}" * 2)
    assert first.count("╍") == 20
    assert "   5/20  10 running, 1 failed" in first
    assert second.startswith("total            " + "─" * 40 + "    0/?")


def test_a_node_without_items_is_done_too():
    assert "━" * 40 in drawn(stage("a", "a", total=0, jobs_done=4))[1]


@pytest.mark.parametrize("width", [*range(1, 30), 40, 60, 80, 100, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_any_width(width, encoding):
    lines = drawn(*FUSED, width=width, encoding=encoding, tag="été à la plage", reason="why " * 9)
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    if encoding == "ascii":
        assert all(line.isascii() for line in lines)


def test_narrow_terminals_keep_what_matters():
    _, first, _ = drawn(*FUSED, width=52)
    assert "simulate + " in first
    assert "5/20  1 failed" in first
    assert "5/20" in drawn(*FUSED, width=20)[1]


def test_a_low_terminal_shows_the_nodes_that_work():
    stages = [stage(f"s{n}", f"s{n}", done=20, jobs_done=4) for n in range(20)]
    stages += [stage(f"s{n}", f"s{n}") for n in range(20, 40)]
    lines = drawn(*stages, height=10)
    assert len(lines) == 9
    assert lines[1] == "(20 nodes before are done)"
    assert lines[2].startswith("s20 ")
    assert lines[-1] == "(14 nodes more)"
    assert len(drawn(*stages, height=10, closed=True)) == 41


def test_held_jobs_are_told():
    lines = drawn(*FUSED, state=RunState.HELD, held=("a: no disk", "b", "c", "d"))
    assert lines[0].startswith("my run: held")
    assert lines[-3:] == ["a: no disk", "b", "c"]


def test_times(clock):
    frame = Frame()
    late = stage("b", "b", done=1)
    frame.take(status(stage("a", "a"), late))
    clock.now += 5
    frame.take(status(stage("a", "a", running=5), late))
    clock.now += 61
    frame.take(status(stage("a", "a", done=20, jobs_done=4), late))
    clock.now += 3600
    head, first, second = [line.plain for line in frame.lines(100, 24)]
    assert head.endswith(", 1:01:06; jobs: 4 waiting, 4 done")
    assert first.endswith("  1:01")  # it stands still
    assert second.endswith("     ")  # it had begun before anyone looked
    frame.take(status(late, state=RunState.FAILED))
    clock.now += 10
    assert frame.lines(100, 24)[0].plain.endswith(", 1:01:06; jobs: 4 not done")


def test_the_live_display_leaves_its_last_state(terminal):
    stderr = terminal()
    with Display(True) as display:
        display.update(status(stage("a", "a", done=5)))
        display.update(status(stage("a", "a", done=20, jobs_done=4), state=RunState.DONE))
    output = stderr.getvalue()
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert "20/20" in output.rpartition("my run")[2]
    assert output.rpartition("my run")[2].endswith("\n\x1b[?25h")


def test_the_cursor_comes_back_when_it_is_interrupted_at_once(terminal, monkeypatch):
    stderr = terminal()
    draw = Frame.lines

    def interrupted(*arguments):
        monkeypatch.setattr(Frame, "lines", draw)
        raise KeyboardInterrupt

    monkeypatch.setattr(Frame, "lines", interrupted)
    with pytest.raises(KeyboardInterrupt), Display(True) as display:
        display.update(status(*FUSED))
    assert stderr.getvalue().rstrip("\r\n").endswith("\x1b[?25h")


def test_rich_is_imported_only_for_a_live_display():
    code = (
        "import sys, htdag.show.progress as progress\n"
        "with progress.Display(True), progress.Display(False): pass\n"
        "print([name for name in sys.modules if name.startswith('rich')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
    assert progress.__doc__


# Pace, several runs, notebooks


def test_a_pace_is_that_of_the_last_minutes():
    pace = Pace()
    assert (pace.rate, pace.left(5)) == (None, None)
    pace.take(0, 0)
    pace.take(1, 5)
    assert pace.rate is None  # too short to say
    pace.take(10, 20)
    assert (pace.rate, pace.left(40)) == (2.0, 20.0)
    for second in range(20, 1000, 10):
        pace.take(second, 20 + (second - 10) // 10)
    assert pace.rate == pytest.approx(0.1)
    pace.take(1000, 3)  # begun anew
    assert pace.rate is None


@pytest.mark.parametrize(
    ("rate", "text"),
    [(123.4, "123/s"), (1.25, "1.2/s"), (0.5, "30/min"), (0.02, "1.2/min"), (1e-3, "3.6/h")],
)
def test_rates_for_people(rate, text):
    assert rate_text(rate) == text


def test_durations():
    assert [clock_text(seconds) for seconds in (5, 65.9, 3700)] == ["0:05", "1:05", "1:01:40"]


def test_a_clock_stands_still_while_only_failed_items_are_left(clock):
    frame = Frame()

    def told(running, failed):
        first = stage("first", "first", total=2, running=running, failed=failed)
        other = stage("other", "other", total=4, running=1)
        frame.take(status(first, other))
        clock.now += 10
        row = next(line.plain for line in frame.lines(120, 24) if line.plain.startswith("first"))
        return re.findall(r"\d+:\d\d", row)[0]

    assert [told(2, 0), told(0, 2), told(0, 2), told(1, 1), told(0, 2)] == [
        "0:10",
        "0:10",
        "0:10",
        "0:40",
        "0:40",
    ]


def test_notes_are_shown_and_told_once(clock, capsys):
    note = "node work, 2 jobs: it asks for 64 GB"
    frame, lines = Frame(), Display(True)
    noted = replace(status(*FUSED), notes=(note,))
    frame.take(noted)
    assert note in [line.plain for line in frame.lines(80, 24)]
    with lines:
        for _ in range(3):
            lines.update(noted)
            clock.now += 20
    assert capsys.readouterr().err.count(note) == 1


def test_a_frame_tells_pace_and_time_left_where_there_is_room(clock):
    frame = Frame()
    frame.take(status(stage("a", "a", done=2, running=5)))
    clock.now += 10
    frame.take(status(stage("a", "a", done=12, running=5)))
    assert frame.lines(100, 24)[1].plain.endswith("  1.0/s, 0:08 left")
    assert "left" not in frame.lines(30, 24)[1].plain
    for width in range(10, 120):
        assert all(line.cell_len <= width for line in frame.lines(width, 24))


def test_jobs_by_state():
    entry = StageStatus("a", "a", 20, 5, 0, 10, jobs=10, jobs_done=3, jobs_running=2)
    assert jobs_text(status(entry)) == "jobs: 2 running, 5 waiting, 3 done"
    held = replace(entry, jobs_held=1)
    assert jobs_text(status(held)) == "jobs: 2 running, 1 on hold, 4 waiting, 3 done"
    ended = replace(entry, jobs_running=0)
    text = jobs_text(status(ended, state=RunState.FAILED))
    assert text == "jobs: 7 not done, 3 done"
    text = jobs_text(status(ended, state=RunState.DONE))
    assert text == "jobs: 7 with skipped items, 3 done"


def test_where_no_item_is_left_no_time_is_told(clock):
    frame = Frame()
    frame.take(status(stage("a", "a", done=2, failed=1, running=5)))
    clock.now += 10
    frame.take(status(stage("a", "a", done=19, failed=1)))
    assert "left" not in frame.lines(100, 24)[1].plain


def test_several_runs_in_one_display(terminal, capsys):
    with Display(True) as display:
        display.update(status(stage("a", "a"), tag="one"))
        display.update(status(stage("b", "b", done=3), tag="two"))
    assert [line[:4] for line in capsys.readouterr().err.splitlines()] == ["one:", "two:"]
    screen = terminal()
    with Display(True) as display:
        display.update(status(stage("a", "a"), tag="one"))
        display.update(status(stage("b", "b", done=3), tag="two"))
    text = screen.getvalue()
    assert "one" in text.rpartition("two")[0]


class Notebook:
    """What htdag uses of IPython in a notebook's kernel."""

    kernel = object()

    def __init__(self):
        self.shown = []

    def get_ipython(self):
        return self

    def display(self, picture, display_id):
        assert display_id
        self.shown.append(picture)
        return self

    def update(self, picture):
        self.shown.append(picture)

    HTML = staticmethod(str)


@pytest.fixture
def cell(monkeypatch):
    ipython = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    return ipython


def test_a_notebook_gets_html_that_changes_in_place(cell, clock, capsys):
    assert notebook.is_notebook()
    with Display(True) as display:
        display.update(status(stage("a <b>", "a", done=5, failed=1, running=4), tag="x & y"))
        display.update(status(stage("a <b>", "a", done=6)))
        assert len(cell.shown) == 1  # the second came too soon
        clock.now += 10
        display.update(status(stage("a <b>", "a", done=15)))
        display.update(status(stage("a <b>", "a", done=20, jobs_done=4), state=RunState.DONE))
    first, second, last = cell.shown
    assert "x &amp; y" in first
    assert "a &lt;b&gt;" in first
    assert "width:25.00%" in first
    assert "1 failed" in first
    assert "/s" in second
    assert " left" in second
    assert ">done<" in last
    assert capsys.readouterr() == ("", "")


def test_without_a_kernel_it_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.is_notebook()
    ipython = Notebook()
    ipython.kernel = None
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not notebook.is_notebook()
