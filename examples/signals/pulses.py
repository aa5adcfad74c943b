"""Find short pulses in noisy recordings, with numpy that travels with the jobs."""

import argparse
import csv
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import htdag

RATE = 4096  # samples a second
APART = 0.25  # seconds: what is nearer to a stronger pulse is a part of that one


class Recording(NamedTuple):
    number: int
    seconds: int


class Pulse(NamedTuple):
    recording: int
    second: float
    strength: float  # how many times the noise


# --- Recordings ----------------------------------------------------------------------------


def recordings(count: int, longest: int) -> list[Recording]:
    """Recordings of different lengths, the short ones first, so that alike ones share a job."""
    lengths = sorted(longest // (1 + number % 4) for number in range(count))
    return [Recording(number, seconds) for number, seconds in enumerate(lengths)]


def shape() -> np.ndarray:
    """A pulse: a tone that rises from about 100 to 300 Hz and is gone after a tenth of a second."""
    time = np.arange(-RATE // 16, RATE // 16) / RATE
    return np.exp(-((time / 0.02) ** 2) / 2) * np.sin(2 * np.pi * (200 * time + 1000 * time**2))


def planted(recording: Recording) -> list[float]:
    """The seconds at which a recording has pulses: what should be found."""
    dice = np.random.default_rng([recording.number, 1])
    places = np.arange(2, recording.seconds - 2, 4)
    return sorted(dice.choice(places, len(places) // 3, replace=False) + dice.uniform(0, 1))


def record(recording: Recording) -> htdag.OutputFile:
    """Make a recording: faint pulses under noise, the hum of the mains, and a slow drift."""
    dice = np.random.default_rng([recording.number, 2])
    count = recording.seconds * RATE
    time = np.arange(count) / RATE
    signal = dice.normal(size=count) + 3 * np.sin(2 * np.pi * 50 * time + dice.uniform(0, 6))
    signal += np.cumsum(dice.normal(scale=0.05, size=count))
    pulse = shape()
    for second in planted(recording):
        start = round(second * RATE) - len(pulse) // 2
        signal[start : start + len(pulse)] += dice.uniform(1.5, 3) * pulse
    name = f"recording-{recording.number:04}.npy"
    np.save(name, signal.astype(np.float32))
    return htdag.OutputFile(name)


def memory(recording: Recording) -> int:
    """MB of memory: numpy itself, and the arrays of a recording that are there at once."""
    return 128 + 10 * recording.seconds * RATE * 8 // 1_000_000


# --- Pulses --------------------------------------------------------------------------------


def whiten(path: Path) -> tuple[int, np.ndarray]:
    """Divide each frequency by how loud it is all the time: the hum and the drift are gone."""
    signal = np.load(path).astype(float)
    # The end and the beginning meet in the transform: without a jump, please.
    signal -= signal.mean()
    edge = np.sin(np.linspace(0, np.pi / 2, RATE)) ** 2
    signal[:RATE] *= edge
    signal[-RATE:] *= edge[::-1]
    pieces = signal.reshape(-1, RATE) * np.hanning(RATE)
    loudness = np.sqrt(np.median(np.abs(np.fft.rfft(pieces)) ** 2, axis=0))
    spectrum = np.fft.rfft(signal)
    place = np.linspace(0, len(loudness) - 1, len(spectrum))
    spectrum /= np.interp(place, np.arange(len(loudness)), loudness)
    return int(path.stem.rpartition("-")[2]), np.fft.irfft(spectrum, len(signal))


def detect(recording: tuple[int, np.ndarray], threshold: float) -> htdag.OutputFile:
    """Compare with the shape of a pulse at each moment, and take where they are most alike."""
    number, signal = recording
    pulse = np.zeros(len(signal))
    found = shape()
    pulse[: len(found)] = found
    likeness = np.fft.irfft(np.fft.rfft(signal) * np.conj(np.fft.rfft(pulse)), len(signal))
    likeness = np.abs(np.roll(likeness, len(found) // 2))
    likeness /= 1.4826 * np.median(likeness)  # the deviation of noise, whatever pulses there are
    pulses: list[Pulse] = []
    for sample in np.argsort(-likeness):
        if likeness[sample] < threshold:
            break
        second = float(sample / RATE)
        if all(abs(second - other.second) > APART for other in pulses):
            pulses.append(Pulse(number, round(second, 3), round(float(likeness[sample]), 1)))
    return write(sorted(pulses))


def write(pulses: Sequence[Sequence[object]]) -> htdag.OutputFile:
    with open("pulses.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(Pulse._fields)
        table.writerows(pulses)
    return htdag.OutputFile("pulses.csv")


def join(one: Path, other: Path) -> htdag.OutputFile:
    return write([row for path in (one, other) for row in read(path)])


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def pipeline(
    made: Sequence[Recording], jobs: int = 4, threshold: float = 7.0, folder: Path | None = None
) -> htdag.Pipeline:
    """Find the pulses of recordings; the catalogue is put into `folder`, too."""
    chunk = -(-len(made) // jobs)
    source = htdag.source(made, name="recordings", chunk_size=chunk)
    files = source.map(record, name="record", request_memory=memory)
    white = files.map(whiten, name="whiten", chunk_size=chunk)
    pulses = white.map(partial(detect, threshold=threshold), name="detect")
    catalogue = pulses.reduce(join, name="catalogue", output_destination=folder)
    # What the script has, or a newer one, of the Python that runs it.
    environment = htdag.Environment.packed(["numpy>=1.26"])
    return htdag.Pipeline(catalogue, name="pulses", environment=environment, retries=1)


def compared(catalogue: Path, made: Sequence[Recording]) -> tuple[int, int, int]:
    """Count what was planted, what was found of it, and what else was found."""
    places = {(r.number, second) for r in made for second in planted(r)}
    rows = [(int(number), float(second)) for number, second, _ in read(catalogue)]

    def at(one: tuple[int, float], other: tuple[int, float]) -> bool:
        return one[0] == other[0] and abs(one[1] - other[1]) < 0.02

    found = sum(any(at(place, row) for row in rows) for place in places)
    other = sum(not any(at(place, row) for place in places) for row in rows)
    return len(places), found, other


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=16, help="how many (default: 16)")
    parser.add_argument(
        "--seconds", type=int, default=120, help="of the longest recording (default: 120)"
    )
    parser.add_argument("--threshold", type=float, default=7.0, help="times the noise (default: 7)")
    parser.add_argument("--jobs", type=int, default=4, help="jobs a step (default: 4)")
    parser.add_argument("--write", metavar="FOLDER", type=Path, help="put the catalogue there")
    parser.add_argument("--on", choices=["auto", "condor", "local"], default="auto")
    parser.add_argument("--tag", help="a name for the run")
    args = parser.parse_args(argv)

    made = recordings(args.recordings, args.seconds)
    flow = pipeline(made, args.jobs, args.threshold, args.write)
    run = flow.submit(args.tag, on=args.on)
    try:
        run.wait(progress=True)
    except KeyboardInterrupt:
        run.interrupted()
        raise
    catalogue = run.result()
    rows = sorted(read(catalogue), key=lambda row: -float(row[2]))
    print("The strongest:\nrecording   second   strength")
    for number, second, strength in rows[:5]:
        print(f"{number:>9} {second:>8} {strength:>10}")
    pulses, found, other = compared(catalogue, made)
    print(f"{found} of {pulses} pulses found, and {other} that are none.")
    print(f"The catalogue: {args.write / catalogue.name if args.write else catalogue}")
    diagram = run.path / "pulses.svg"
    flow.render(diagram)
    print(f"The pipeline, drawn: {diagram}")


if __name__ == "__main__":
    try:
        main()
    except htdag.HtdagError as error:
        sys.exit(f"{type(error).__name__}: {error}")
