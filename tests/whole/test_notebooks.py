"""What sessions in which people type, as notebooks, get that scripts do not."""

from __future__ import annotations

import linecache
import sys
import warnings
from typing import Any

import pytest

import htdag
from htdag import errors


class Printer:
    """What IPython hands to objects that are to be shown as text."""

    def __init__(self) -> None:
        self.shown = ""

    def text(self, text: str) -> None:
        self.shown += text


def typed(text: str) -> dict[str, Any]:
    """Run a cell as IPython does: its text is in no file, but where tracebacks look it up."""
    file = "/nowhere/ipykernel_1/99.py"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    names = {"__name__": "__main__"}
    exec(compile(text, file, "exec"), names)
    return names


@pytest.fixture
def failed(runs_dir, monkeypatch, capsys) -> htdag.Run:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    cell = typed("def inverse(x):\n    share = 1 / x\n    return share\n")
    flow = htdag.Pipeline(htdag.map(cell["inverse"], [0, 1], on_error="skip", max_errors=1))
    return flow.submit(on="local").wait(200, progress=False)


def test_a_tag_that_was_made_up_is_told(failed, capsys):
    assert f"htdag: the run has the tag {failed.tag!r}" in capsys.readouterr().err
    flow = htdag.Pipeline(htdag.map(abs, [1]))
    flow.submit("given", on="local").wait(200, progress=False)
    assert capsys.readouterr().err == ""


def test_the_lines_of_a_cell_are_quoted(failed):
    (error,) = failed.errors()
    assert "    share = 1 / x\n" in error.traceback
    assert "    share = 1 / x\n" in failed.debug("inverse", 0, pdb=False).traceback()


def test_status_and_errors_are_shown_as_text(failed):
    for value in (failed.status(), *failed.errors(), *failed.error_groups()):
        printer = Printer()
        value._repr_pretty_(printer, False)
        assert printer.shown == str(value)


def test_a_warning_names_the_line_of_the_user(failed):
    for ask in (failed.result, lambda: list(failed.items())):
        with pytest.warns(errors.ItemsMissing) as caught:
            ask()
        assert caught[0].filename == __file__


CELLS = (
    """
import htdag

def square(x):
    return x * x

flow = htdag.Pipeline(htdag.source(range(4)).map(square), name="squares")
flow
""",
    "flow.explain()",
    "run = flow.submit('one', on='local')\nrun.wait()",
    "run",
    "import pandas\npandas.DataFrame(run.items())",
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What a kernel shows for each cell: for each output its kind and its data."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("HTDAG_HOME", str(tmp_path_factory.mktemp("home")))
        nbclient.NotebookClient(notebook, timeout=60).execute()
    return [[output["data"] for output in cell["outputs"]] for cell in notebook["cells"]]


def test_a_pipeline_is_shown_as_its_diagram(shown):
    (pipeline,) = shown[0]
    assert pipeline["text/plain"] == "<htdag.Pipeline 'squares': 2 stages>"
    assert "<svg" in pipeline["image/svg+xml"]
    assert ">square<" in pipeline["image/svg+xml"]


def test_the_plan_in_words_is_shown_in_lines(shown):
    (plan,) = shown[1]
    assert plan["text/plain"].startswith("Pipeline squares: 2 stages in 1 DAGMan node, 4 jobs\n  ")


def test_the_bars_of_a_run_are_shown_once_a_cell(shown):
    bars = "border-collapse"
    waited, asked = shown[2:4]
    assert [bars in output["text/html"] for output in waited] == [True, False]
    assert "one" in waited[1]["text/html"]
    assert [bars in output["text/html"] for output in asked] == [True]


def test_items_become_rows_with_a_column_for_each_field(shown):
    (table,) = shown[4]
    assert table["text/plain"].split()[:5] == ["key", "value", "0", "0", "0"]
