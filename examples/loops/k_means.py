"""Find the groups that points lie in, by k-means: a loop whose rounds are jobs."""

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from functools import partial

import htdag

Point = tuple[float, float]
Sums = dict[int, tuple[int, float, float]]


def points_around(seeds: int, each: int) -> list[tuple[int, int]]:
    """Return what a job makes points of, so that points themselves need not be sent."""
    return [(seed, each) for seed in range(seeds)]


def scattered(batch: tuple[int, int], groups: int) -> Iterator[Point]:
    """Make points around as many places as there are groups, on a circle."""
    seed, each = batch
    dice = random.Random(seed)
    for _ in range(each):
        angle = 2 * math.pi * dice.randrange(groups) / groups
        yield math.cos(angle) + dice.gauss(0, 0.2), math.sin(angle) + dice.gauss(0, 0.2)


def nearest(point: Point, centres: list[Point]) -> tuple[int, Point]:
    return min(range(len(centres)), key=lambda number: math.dist(point, centres[number])), point


def add(sums: Sums, found: tuple[int, Point]) -> Sums:
    number, (x, y) = found
    count, sum_x, sum_y = sums.get(number, (0, 0.0, 0.0))
    sums[number] = (count + 1, sum_x + x, sum_y + y)
    return sums


def merge(a: Sums, b: Sums) -> Sums:
    for number, (count, sum_x, sum_y) in b.items():
        before = a.get(number, (0, 0.0, 0.0))
        a[number] = (before[0] + count, before[1] + sum_x, before[2] + sum_y)
    return a


def moved(sums: Sums, centres: list[Point]) -> list[Point]:
    """Return the middle of each group; a centre without points stays where it is."""
    found = list(centres)
    for number, (count, sum_x, sum_y) in sums.items():
        found[number] = (sum_x / count, sum_y / count)
    return found


def is_settled(centres: list[Point], before: list[Point], tolerance: float) -> bool:
    return max(map(math.dist, centres, before)) < tolerance


def pipeline(
    points: int = 20_000, groups: int = 5, jobs: int = 4, tolerance: float = 0.001
) -> htdag.Pipeline:
    """Look for `groups` groups in so many points, which `jobs` jobs make and work on."""
    batches = htdag.source(points_around(jobs, points // jobs), name="batches", chunk_size=1)
    made = batches.flat_map(partial(scattered, groups=groups), name="points")

    def step(centres: htdag.Stage) -> htdag.Stage:
        near = made.map(nearest, bind={"centres": centres}, chunk_size=points // jobs)
        sums = near.fold(add, merge, initial={}, name="sums")
        return sums.map(moved, bind={"centres": centres})

    start = [(0.1 * number, 0.1 * (-1) ** number) for number in range(groups)]
    settled = partial(is_settled, tolerance=tolerance)
    centres = htdag.iterate(step, start, until=settled, max_rounds=50, name="k_means")
    return htdag.Pipeline(centres, name="groups")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20_000, help="how many (default: 20,000)")
    parser.add_argument("--groups", type=int, default=5, help="how many to look for (default: 5)")
    parser.add_argument("--jobs", type=int, default=4, help="jobs a round (default: 4)")
    parser.add_argument("--tolerance", type=float, default=0.001, help="default: 0.001")
    parser.add_argument("--on", choices=["auto", "condor", "local"], default="auto")
    parser.add_argument("--tag", help="a name for the run")
    args = parser.parse_args(argv)

    flow = pipeline(args.points, args.groups, args.jobs, args.tolerance)
    run = flow.submit(args.tag, on=args.on)
    try:
        run.wait(progress=True)
    except KeyboardInterrupt:
        run.interrupted()
        raise
    print(run.status()["k_means"].note)
    for x, y in sorted(run.result()):
        print(f"{x:8.3f} {y:8.3f}")
    diagram = run.path / "k_means.svg"
    flow.render(diagram)
    print(f"The pipeline, drawn: {diagram}")


if __name__ == "__main__":
    main()
