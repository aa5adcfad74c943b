"""Which items each chunk takes: every item in one chunk, and no more read than is needed."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from htdag.runtime import chunking

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=12)


@given(COUNTS, st.none() | st.integers(1, 50), st.floats(0.5, 60), st.integers(1, 20))
def test_boundaries_cover_everything_once(cells, size, per_job, most):
    total = sum(cells)
    edges = chunking.boundaries(total, size, per_job, most, cells)
    assert (edges[0], edges[-1]) == (0, total)
    widths = [b - a for a, b in itertools.pairwise(edges)]
    if total == 0:
        assert widths == [0]
    elif size is not None:
        assert set(widths[:-1]) <= {size}
        assert 0 < widths[-1] <= size
    else:
        assert all(width > 0 for width in widths)
        assert len(widths) <= most


def test_even_blocks_are_taken_whole():
    assert chunking.boundaries(40, None, 10, 100, [10, 10, 10, 10]) == [0, 10, 20, 30, 40]
    assert chunking.boundaries(40, None, 20, 100, [11, 10, 10, 9]) == [0, 21, 40]


def test_uneven_blocks_are_cut():
    assert chunking.boundaries(40, None, 10, 100, [37, 1, 1, 1]) == [0, 10, 20, 30, 40]


@given(COUNTS, st.data())
def test_slices_are_the_values_of_a_range(counts, data):
    total = sum(counts)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    values = [(block, n) for block, count in enumerate(counts) for n in range(count)]
    found = chunking.slices(counts, start, stop)
    assert [(part.block, n) for part in found for n in range(part.start, part.stop)] == values[
        start:stop
    ]
    assert all(part.whole == (part.stop - part.start == counts[part.block]) for part in found)


@given(st.integers(0, 9), st.integers(1, 5))
def test_combinations_are_counted_and_found_by_number(items, r):
    expected = list(itertools.combinations(range(items), r))
    found = [tuple(chunking.combination_at(items, r, rank)) for rank in range(len(expected))]
    assert found == expected


VIEWS = st.one_of(
    st.tuples(st.just("items"), st.just(0), st.tuples(st.integers(0, 9))),
    st.tuples(st.just("batch"), st.integers(1, 4), st.tuples(st.integers(0, 9))),
    st.tuples(st.just("enumerate"), st.integers(-3, 4), st.tuples(st.integers(0, 9))),
    st.tuples(st.just("combinations"), st.integers(1, 4), st.tuples(st.integers(0, 7))),
    st.tuples(
        st.sampled_from(["zip", "product", "concat"]),
        st.just(0),
        st.lists(st.integers(0, 5), min_size=1, max_size=3),
    ),
)


def items_of(view, number, totals):
    """The items of a view, each as the values (stream, number) that it is made of."""
    streams = [[(stream, n) for n in range(total)] for stream, total in enumerate(totals)]
    if view == "batch":
        (values,) = streams
        return [values[n : n + number] for n in range(0, len(values), number)]
    if view == "zip":
        return list(zip(*streams, strict=False))
    if view == "product":
        return list(itertools.product(*streams))
    if view == "combinations":
        return list(itertools.combinations(streams[0], number))
    return [[value] for values in streams for value in values]


@given(VIEWS, st.data())
def test_what_a_range_of_a_view_needs(found, data):
    view, number, totals = found
    items = items_of(view, number, totals)
    assert chunking.view_total(view, number, None, totals) == len(items)
    assert chunking.view_total(view, number, 3, totals) == min(3, len(items))
    start = data.draw(st.integers(0, len(items)))
    stop = data.draw(st.integers(start, len(items)))
    needed = chunking.needed(view, number, totals, start, stop)
    assert len(needed) == len(totals)
    used = {value for item in items[start:stop] for value in item}
    read = {(stream, n) for stream, (a, b) in enumerate(needed) for n in range(a, b)}
    assert used <= read
    if view in ("items", "batch", "enumerate", "zip", "concat"):
        assert used == read


@given(st.integers(0, 200), st.integers(1, 30))
def test_items_given_out_in_their_order(total, parts):
    shares = [0] * parts
    for item in range(total):
        shares[min(item * parts // total, parts - 1)] += 1
    assert [chunking.share_of(total, part, parts) for part in range(parts)] == shares


def test_what_is_not_known_stays_so():
    assert chunking.share_of(-1, 0, 4) == -1
