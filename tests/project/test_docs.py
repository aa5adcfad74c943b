"""What the pages show is true: their code runs and prints what they say; links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from pages import DOCS, PROJECT, plain

import htdag

PAGES = sorted([PROJECT / "README.md", *DOCS.glob("*.md")])
# Pages whose Python and console blocks are run, in order, as one script of this name.
SCRIPTS = {
    "walks.py": PROJECT / "README.md",
    "first_steps.py": DOCS / "first-steps.md",
    **{
        f"{name}.py": DOCS / f"{name}.md"
        for name in (
            *("per-item", "combining", "keyed", "views", "loops", "files"),
            *("resources", "checkpoints", "programs", "inside", "surroundings"),
            *("environments", "errors", "htmap", "recipes"),
        )
    },
    "error_policy.py": DOCS / "error-policy.md",
}

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SUFFIX = re.compile("jsonl?|log|pickle|pyz|py|sh|sub|todo|txt")
_SEPARATOR = "\x1e"
_COMMAND = """\
import os, subprocess, sys
sys.stdout.flush()
subprocess.run({command!r}, shell=True, stderr=subprocess.STDOUT)
"""


class Block(NamedTuple):
    """A block of a page: code, and what the page says that it prints (None: nothing is said)."""

    code: str
    output: str | None


def blocks_of(page: Path) -> list[Block]:
    found: list[Block] = []
    before = ""
    for kind, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            found.append(Block(text, None))
        elif kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append(Block(_COMMAND.format(command=command), output))
        elif kind == "text" and before == "python":
            found[-1] = found[-1]._replace(output=text)
        before = kind
    return found


@pytest.fixture(scope="module", params=SCRIPTS)
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Block], list[str]]:
    """A folder in which a page's code was run, its blocks, and what each has printed."""
    folder = tmp_path_factory.mktemp("ada")
    blocks = blocks_of(SCRIPTS[request.param])
    mark = f"\nprint({_SEPARATOR!r}, flush=True)\n"
    (folder / request.param).write_text(mark.join([*(block.code for block in blocks), ""]))
    environment = os.environ | {
        "HTDAG_HOME": str(folder / ".local/share/htdag"),
        "CONDOR_CONFIG": "/dev/null",  # no HTCondor for on="auto"
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    done = subprocess.run(
        [sys.executable, request.param],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, blocks, done.stdout.split(_SEPARATOR + "\n")[:-1]


def test_a_page_prints_what_it_says(ran: tuple[Path, list[Block], list[str]]):
    folder, blocks, printed = ran
    assert len(blocks) == len(printed)
    assert any(block.output for block in blocks)
    for block, text in zip(blocks, printed, strict=True):
        if block.output is None:
            assert text == "", block.code
        else:
            assert plain(text, folder) == plain(block.output, folder), block.code


def test_the_pictures_are_those_that_the_code_draws(ran: tuple[Path, list[Block], list[str]]):
    folder, blocks, _ = ran
    drawn = sorted(folder.glob("*.svg"))
    assert bool(drawn) == any(".render(" in block.code for block in blocks)
    for picture in drawn:
        assert texts(DOCS / "images" / picture.name) == texts(picture)


def texts(picture: Path) -> list[str]:
    """Return the texts of a drawing; where they stand depends on who drew it."""
    found = re.findall(r"<text[^>]*>([^<]*)</text>", picture.read_text(encoding="utf-8"))
    return sorted(text.replace("&#160;", " ").strip() for text in found)


MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(htdag.__path__, "htdag.")
    if not module.name.endswith("__main__")
)


def has_examples(module: str) -> bool:
    path = Path(htdag.__file__).parent.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ">>> " in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*filter(has_examples, ["htdag", *MODULES])])
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        # The bindings have wheels for Linux only.
        assert error.name == "htcondor2"  # noqa: PT017
        return
    failed, _ = doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert failed == 0


def test_there_are_docstring_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [name for name in MODULES if name.startswith(("htdag.stages", "htdag.pipeline"))]
    modules = [importlib.import_module(name) for name in names]
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) > 20


def test_the_architecture_names_modules_that_are_there_and_all_of_them():
    text = (DOCS / "architecture.md").read_text()
    package = Path(htdag.__file__).parent
    named = set(re.findall(r"`htdag/([\w/]+(?:\.py|/))`", text))
    rooms = text.partition("## In jobs and beside DAGMan")[2].partition("\n## ")[0]
    for room in re.split(r"\n\n(?=`runtime/)", rooms)[1:]:
        folder = re.match(r"`(runtime/\w*/?)`", room)[1]
        named |= {f"{folder}{name}" for name in re.findall(r"`(\w+\.py)`", room)}
    assert [name for name in named if not (package / name).exists()] == []
    there = {
        *(path.name for path in package.glob("*.py")),
        *(f"{path.parent.name}/" for path in package.glob("*/__init__.py")),
        *(path.relative_to(package).as_posix() for path in (package / "runtime").rglob("*.py")),
    }
    there = {name for name in there if not name.endswith("/__init__.py")}
    parts = {f"{name.split('/')[0]}/" for name in named if "/" in name}
    assert there - named - parts == {"__init__.py"}


def test_names_in_the_pages_about_the_code_are_defined_there():
    """Names such as `post.post` or `Run.result`, and those with the file that they are in."""
    package = Path(htdag.__file__).parent
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    named, unknown = set(), set()
    for page in (DOCS / "architecture.md", DOCS / "add-a-stage.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for owner, name in re.findall(r"`(\w+)\.(\w+)`", text):
            files = [
                path
                for path, source in sources.items()
                if path.stem == owner or re.search(rf"^class {owner}\b", source, re.MULTILINE)
            ]
            if files and not _SUFFIX.fullmatch(name):
                named.add((f"{owner}.{name}", name, tuple(files)))
        pattern = r"((?:`\w+`(?:, | and )?)+) (?:in |\()`htdag/([\w/]+\.py)`"
        for names, file in re.findall(pattern, text):
            for name in re.findall(r"\w+", names.replace(" and ", " ")):
                if name not in ("condor_tail", "htdag"):  # which the file is about
                    named.add((f"{file}: {name}", name, (package / file,)))
    assert {"judgement.judge", "Sources._of_node", "plan/fuse.py: can_fuse"} <= {
        entry for entry, *_ in named
    }
    for entry, name, files in named:
        defined = rf"^ *(?:(?:class|def) {name}\b|{name}(?:: .*)? = |{name}: )"
        if not any(re.search(defined, sources[file], re.MULTILINE) for file in files):
            unknown.add(entry)
    assert unknown == set()


def test_the_reasons_in_the_architecture_are_those_of_the_planner():
    text = (DOCS / "architecture.md").read_text()
    quoted = set(re.findall(r"^\| \*(.+)\* \|", text, re.MULTILINE))
    tree = ast.parse((Path(htdag.__file__).parent / "plan" / "fuse.py").read_text())
    patterns = {
        "".join(
            re.escape(part.value) if isinstance(part, ast.Constant) else ".+"
            for part in (
                node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
            )
        )
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name in ("can_fuse", "_losing")
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.JoinedStr | ast.Constant)
    } - {""}
    assert len(patterns) > 8
    assert {each for each in quoted if not any(re.fullmatch(p, each) for p in patterns)} == set()
    assert {p for p in patterns if not any(re.fullmatch(p, each) for each in quoted)} == set()


def test_the_reference_has_every_name():
    text = (DOCS / "api.md").read_text()
    entries = re.findall(r"^\.\. (?:auto\w+|data):: (?:htdag\.)?([\w.]+)", text, re.MULTILINE)
    assert "errors" in entries  # all of the module
    others = [name for name in htdag.__all__ if not hasattr(htdag.errors, name)]
    assert len(others) > 20
    assert [name for name in others if name not in entries and f"`htdag.{name}`" not in text] == []


@pytest.mark.parametrize("kind", [htdag.Run, htdag.Pipeline, htdag.Stage])
def test_the_reference_has_every_method(kind: type):
    text = (DOCS / "api.md").read_text()
    entry = re.search(rf"^\.\. autoclass:: {kind.__name__}.*\n((?:   :.*\n)*)", text, re.MULTILINE)
    assert entry is not None
    options = set(re.findall(r":([\w-]+):", entry[1]))
    public = {name for name in dir(kind) if not name.startswith("_")}
    inherited = public - set(vars(kind))
    assert "members" in options
    assert not inherited or "inherited-members" in options


def test_the_page_of_the_command_line_has_every_command():
    import click

    from htdag.cli import main

    assert isinstance(main, click.Group)
    first, *_ = (DOCS / "cli.md").read_text().split("\n## ")
    verbs = set(main.list_commands(click.Context(main)))
    assert verbs - set(re.findall(r"[\w-]+", first)) == set()
    named = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shells = "".join(block for kind, block in _FENCE.findall(text) if kind == "sh")
        named.update(re.findall(r"(?:`|\$ )htdag ([a-z]+)\b", text))
        named.update(re.findall(r"^htdag ([a-z]+)\b", shells, re.MULTILINE))
    assert "resume" in named
    assert named <= verbs


def test_names_in_the_text_exist():
    owners = {"htdag": htdag, "run": htdag.Run, "flow": htdag.Pipeline, "Run": htdag.Run}
    owners |= {"Environment": htdag.Environment, "Pipeline": htdag.Pipeline, "Stage": htdag.Stage}
    others = {"run.tag", "run.path", "run.json", "run.sh", "htdag.NAME"}
    named = set()
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        code = " ".join(re.findall(r"`[^`]+`", text))
        named.update((page.name, *pair) for pair in re.findall(r"(?<![\w./])(\w+)\.(\w+)", code))
    ours = {(page, owner, name) for page, owner, name in named if owner in owners}
    assert len(ours) > 100
    unknown = {
        f"{page}: {owner}.{name}"
        for page, owner, name in ours
        if not hasattr(owners[owner], name) and f"htdag.{name}" not in MODULES
    }
    assert {entry for entry in unknown if entry.partition(": ")[2] not in others} == set()


def test_the_reference_has_every_option():
    from htdag.options.stage_options import PIPELINE_ONLY, Options

    text = (DOCS / "api.md").read_text()
    assert [
        name for name in (*Options.__dataclass_fields__, *PIPELINE_ONLY) if f"`{name}`" not in text
    ] == []


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    found = {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    return found | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


def test_links_lead_somewhere():
    broken = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            file = (page.parent / path) if path else page
            if target.startswith(("http:", "https:")):
                continue
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_paths_and_tests_that_are_named_exist():
    path = r"`((?:htdag|tests|tools|docs|examples|benchmarks)/[^`\s]*)`"
    missing = []
    for page in PAGES:
        for name in re.findall(path, page.read_text(encoding="utf-8")):
            file, _, test = name.partition("::")
            if not (PROJECT / file).exists() or (
                test and f"def {test}(" not in (PROJECT / file).read_text()
            ):
                missing.append(f"{page.name}: {name}")
    assert missing == []


def test_every_page_is_in_the_table_of_contents():
    text = (DOCS / "index.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or re.search(rf"^{page.stem}$", text, re.MULTILINE)


def test_the_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))
        assert set(named) <= targets, page


def test_pictures_are_used():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (DOCS / "images").iterdir():
        assert f"images/{picture.name}" in text


def test_the_citation_is_of_this_version():
    text = (DOCS.parent / "CITATION.cff").read_text()
    assert f"\nversion: {htdag.__version__}\n" in text
