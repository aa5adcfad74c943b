"""Count which species DNA comes from: reads are looked up in known genomes by minimap2."""

import argparse
import gzip
import json
import operator
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import platformdirs

import htdag

BASES = "ACGT"
UNKNOWN = "(unknown)"
CACHE = platformdirs.user_cache_path("htdag")


# --- The program ---------------------------------------------------------------------------


def find_minimap2() -> Path:
    """The program minimap2: this machine's, or that of Debian's package, which needs no root."""
    on_path = shutil.which("minimap2")
    if on_path:
        return Path(on_path).resolve()
    kept = CACHE / "minimap2"
    if kept.exists():
        return kept
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        sys.exit(
            "This needs the program minimap2, which is not on PATH: conda, Homebrew and most "
            "distributions have it.\nOr name it by --program."
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        download("minimap2", Path(folder))
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
        Path(folder, "usr/bin/minimap2").rename(kept)
    return kept


def download(package: str, folder: Path) -> None:
    """Download a package of Debian or Ubuntu; where there is no list of packages, get it first."""
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder / 'cache'}"]
    get = ["apt-get", "-q", "-o", "APT::Sandbox::User=root"]
    print(f"Downloading the program {package}.", file=sys.stderr)
    for commands in ([[*get, "download", package]], [[*get, *own, "update"]]):
        if commands[0][-1] == "update":
            commands.append([*get, *own, "download", package])
        done = [
            subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            for command in commands
        ]
        if done[-1].returncode == 0:
            return
    sys.exit(
        f"The package {package} could not be downloaded:\n{done[-1].stderr.strip()}\n"
        f"Install it (apt-get install {package}), or name the program by --program."
    )


# --- A sample whose composition is known -----------------------------------------------------


def mutated(dice: random.Random, sequence: str, share: float) -> str:
    """Put other bases, or two or none, in place of so many."""
    bases = list(sequence)
    for place in dice.sample(range(len(bases)), round(share * len(bases))):
        bases[place] = dice.choice(BASES) * dice.choice((1, 1, 1, 0, 2))
    return "".join(bases)


def genomes(species: int, length: int) -> dict[str, str]:
    """Genomes by the names of species; every fourth is of a close relative of the one before."""
    dice = random.Random(length)
    made: dict[str, str] = {}
    last = ""
    for number in range(species):
        if number % 4 == 3:
            last = mutated(dice, last, 0.05)
        else:
            last = "".join(dice.choices(BASES, k=length))
        made[f"species-{number:02}"] = last
    return made


def reads(known: dict[str, str], count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Parts of genomes, as a machine reads them that errs: the species and the bases."""
    dice = random.Random(seed)
    # A third of the species are there, each half as frequent as the one before.
    present = list(known)[1::3]
    weights = [2.0**-rank for rank in range(len(present))]
    back = str.maketrans("ACGT", "TGCA")
    for _ in range(count):
        length = dice.randint(500, 2000)
        if dice.random() < 0.1:
            yield UNKNOWN, "".join(dice.choices(BASES, k=length))
            continue
        (name,) = dice.choices(present, weights)
        start = dice.randrange(len(known[name]) - length)
        part = mutated(dice, known[name][start : start + length], 0.08)
        yield name, part if dice.random() < 0.5 else part.translate(back)[::-1]


def make_sample(folder: Path, files: int, each: int, species: int) -> None:
    """Write the genomes, files of reads, and what is in them."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        whole = Path(aside, "sample")
        (whole / "reads").mkdir(parents=True)
        known = genomes(species, length=30_000)
        fasta = "".join(f">{name}\n{sequence}\n" for name, sequence in known.items())
        (whole / "genomes.fa").write_text(fasta)
        truth: Counter[str] = Counter()
        for number in range(files):
            with gzip.open(whole / f"reads/{number:03}.fa.gz", "wt") as file:
                for name, sequence in reads(known, each, seed=number):
                    truth[name] += 1
                    file.write(f">{number}-{truth.total()}\n{sequence}\n")
        (whole / "truth.json").write_text(json.dumps(truth))
        whole.rename(folder)


# --- The search ----------------------------------------------------------------------------


def memory(path: Path) -> int:
    """MB of memory: the program's own for these genomes, and for the reads that it holds."""
    return 150 + 20 * path.stat().st_size // 1_000_000


def count_species(hits: Path) -> Counter[str]:
    """Take for each read the genome where the most of it fits."""
    best: dict[str, tuple[int, str]] = {}
    with hits.open() as file:
        for line in file:
            words = line.split("\t")
            read, species, fitting = words[0], words[5], int(words[9])
            species = UNKNOWN if species == "*" else species
            best[read] = max(best.get(read, (0, UNKNOWN)), (fitting, species))
    if not best:
        raise ValueError("there are no reads in this file")
    return Counter(species for _, species in best.values())


def write_table(counts: Counter[str]) -> htdag.OutputFile:
    lines = [f"{name}\t{count}\t{count / counts.total():.4f}" for name, count in ranked(counts)]
    Path("census.tsv").write_text("\n".join(["species\treads\tshare", *lines, ""]))
    return htdag.OutputFile("census.tsv")


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def pipeline(
    paths: Sequence[Path],
    database: Path,
    program: Path,
    jobs: int = 4,
    folder: Path | None = None,
) -> htdag.Pipeline:
    """Count the species of the reads in files; the table is put into `folder`, too."""
    search = htdag.command(
        "./minimap2 -x map-ont --secondary=no --paf-no-hit -o {output} genomes.fa {input}",
        output="hits.paf",
        timeout=3600,
    )
    files = htdag.files(paths, name="reads", chunk_size=-(-len(paths) // jobs))
    hits = files.map(
        search,
        name="search",
        input_files={"minimap2": program, "genomes.fa": database},
        request_memory=memory,
        retries=2,
    )
    counts = hits.map(count_species, name="count")
    total = counts.reduce(operator.add, initial=Counter(), name="total")
    table = total.map(write_table, name="table", output_destination=folder)
    # A file that the machine left empty should not be the end of all: one in ten may be bad.
    return htdag.Pipeline(table, name="census", on_error="skip", max_errors=0.1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genomes", metavar="FILE", type=Path, help="genomes, as FASTA")
    parser.add_argument(
        "--reads",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="files of reads, as FASTA or FASTQ (default: genomes and reads are made up)",
    )
    parser.add_argument("--files", type=int, default=12, help="to make up (default: 12)")
    parser.add_argument("--each", type=int, default=200, help="reads a file (default: 200)")
    parser.add_argument("--species", type=int, default=24, help="to make up (default: 24)")
    parser.add_argument("--program", metavar="FILE", type=Path, help="the program minimap2")
    parser.add_argument("--jobs", type=int, default=4, help="jobs a step (default: 4)")
    parser.add_argument("--write", metavar="FOLDER", type=Path, help="put the table there")
    parser.add_argument("--on", choices=["auto", "condor", "local"], default="auto")
    parser.add_argument("--tag", help="a name for the run")
    args = parser.parse_args(argv)
    if (args.genomes is None) != (args.reads is None):
        parser.error("--genomes and --reads go together")

    truth: dict[str, int] = {}
    database, paths = args.genomes, args.reads
    if paths is None:
        sample = CACHE / f"sample-{args.files}-{args.each}-{args.species}"
        make_sample(sample, args.files, args.each, args.species)
        database, paths = sample / "genomes.fa", sorted(sample.glob("reads/*"))
        truth = json.loads((sample / "truth.json").read_text())
    flow = pipeline(paths, database, args.program or find_minimap2(), args.jobs, args.write)
    run = flow.submit(args.tag, on=args.on)
    try:
        run.wait(progress=True)
    except KeyboardInterrupt:
        run.interrupted()
        raise

    (table,) = run.result()
    for line in table.read_text().splitlines():
        species, count, share = line.split("\t")
        made = truth.get(species, 0) if count.isdecimal() else "made"
        print(f"{species:12} {count:>6} {share:>7}", f"{made:>6}" if truth else "")
    for error in run.errors():
        print(f"Left out: {error.source}: {error.message}")
    print(f"The table: {args.write / table.name if args.write else table}")
    diagram = run.path / "census.svg"
    flow.render(diagram)
    print(f"The pipeline, drawn: {diagram}")


if __name__ == "__main__":
    try:
        main()
    except htdag.HtdagError as error:
        sys.exit(f"{type(error).__name__}: {error}")
