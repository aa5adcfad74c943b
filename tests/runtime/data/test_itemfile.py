"""Item files: what is written is read again, and what is damaged is never taken for sound."""

from __future__ import annotations

import itertools
import pickle
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htdag.runtime.data import frames as framing
from htdag.runtime.data import itemfile
from htdag.runtime.data.itemfile import DamagedFile, Extent, Frame, ItemWriter

# An input item: its values as (key, payload). Not every item has values; some have several.
ITEMS: dict[int, list[tuple[str, bytes]]] = {
    0: [("0", b"zero")],
    1: [],
    2: [("2.0", b"two"), ("2.1", b""), ("2.é≠", b"\0" * 40)],
    3: [("Ünï-ключ-鍵", b"three")],
}


def write(path, items=ITEMS, *, close=True) -> str:
    """A file of items by sequence number; a tuple stands for a combined range."""
    writer = ItemWriter(str(path))
    for sequence, values in items.items():
        first, last = sequence if isinstance(sequence, tuple) else (sequence, sequence)
        for key, payload in values:
            writer.value(key, payload)
        writer.end(first, last)
    if close:
        writer.close()
    else:
        writer.discard()
    return str(path)


def frames(items=ITEMS) -> list[Frame]:
    return [Frame(itemfile.VALUE, *value) for values in items.values() for value in values]


def outcome(function, *arguments):
    """What a function gives, or that it found damage; any other exception is a failure."""
    try:
        result = function(*arguments)
        return result if isinstance(result, int) else list(result)
    except DamagedFile:
        return "damaged"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "0000.1.words.items"


def test_values_and_keys_come_back_in_order(path):
    assert list(itemfile.read(write(path))) == frames()


@given(
    st.lists(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=60)), max_size=4)),
)
@settings(max_examples=50, deadline=None)
def test_whatever_is_written_is_read(tmp_path_factory, values):
    items = dict(enumerate(values))
    path = write(tmp_path_factory.getbasetemp() / "any.items", items)
    assert list(itemfile.read(path)) == frames(items)
    assert itemfile.count(path) == len(frames(items))
    assert [(extent.first, extent.values) for extent in itemfile.index(path)] == [
        (sequence, len(found)) for sequence, found in items.items()
    ]


BIG = framing.SMALL


@pytest.mark.parametrize("size", [0, BIG - 1, BIG, 3 * BIG])
def test_large_bytes_stand_behind_their_pickle_and_stay_bytes(path, size):
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)
    pickled = framing.plain(value)
    assert len(pickled.buffers) == (size >= BIG)
    assert type(pickled.load_copy()) is bytes
    writer = ItemWriter(str(path))
    writer.value("0", *pickled)
    writer.end(0, 0)
    writer.close()
    (frame,) = itemfile.read(str(path))
    found = pickle.loads(frame.payload, buffers=frame.buffers)
    assert type(found) is bytes
    assert found == value
    if frame.buffers:
        assert found is frame.buffers[0]  # not copied


def write_with_files(path, numbers):
    """Values whose payloads and buffers stand behind what travels with them."""
    writer = ItemWriter(str(path))
    for number in numbers:
        files = [f"file {number}.{n}" for n in range(number % 3)]
        buffers = [bytes(100_000)] if number % 2 else []
        writer.value(str(number), b"payload %d" % number, buffers, files)
        writer.end(number, number)
    writer.close()
    return str(path)


def test_the_files_of_values_are_read_without_them(path):
    name = write_with_files(path, range(6))
    expected = [tuple(f"file {number}.{n}" for n in range(number % 3)) for number in range(6)]
    assert list(itemfile.references([name])) == expected
    assert [frame.payload for frame in itemfile.read(name)] == [b"payload %d" % n for n in range(6)]
    assert [len(frame.buffers) for frame in itemfile.read(name)] == [0, 1] * 3
    assert len(itemfile.index(name, whole=True)) == 6


def test_the_files_of_values_of_several_attempts_are_in_the_order_of_the_values(tmp_path):
    names = [
        write_with_files(tmp_path / "1.items", [1, 2, 5]),
        write_with_files(tmp_path / "2.items", [0, 4]),
    ]
    found = list(itemfile.references(names))
    assert [len(files) for files in found] == [0, 1, 2, 1, 2]
    assert [frame.key for frame in itemfile.merge(names)] == ["0", "1", "2", "4", "5"]


@pytest.mark.parametrize("check", [True, False])
def test_damage_to_what_travels_with_a_value_is_found(path, check):
    name = write_with_files(path, [2])
    whole = bytearray(path.read_bytes())
    head = whole.index(b'["file')
    for position in (head - 4, head):  # the length of the list, and the list
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(itemfile.DamagedFile):
            list(itemfile.read(name) if check else itemfile.references([name]))


class Array:
    """An array as those of numpy are to pickle: a buffer of its own, that may be read-only."""

    def __init__(self, buffer, readonly=False):
        self.buffer = buffer
        self.readonly = readonly

    def __reduce_ex__(self, protocol):
        buffer = memoryview(self.buffer)
        return Array, (pickle.PickleBuffer(buffer.toreadonly() if self.readonly else buffer),)


def pickled(value) -> framing.Pickled:
    buffers: list = []
    payload = pickle.dumps(value, 5, buffer_callback=framing.large_buffers(buffers))
    return framing.Pickled(payload, tuple(buffers))


def write_values(path, *values) -> str:
    writer = ItemWriter(str(path))
    for number, value in enumerate(map(pickled, values)):
        writer.value(str(number), value.payload, buffers=value.buffers)
        writer.end(number, number)
    writer.close()
    return str(path)


def load(frame: Frame):
    return pickle.loads(frame.payload, buffers=frame.buffers)


def test_large_buffers_stand_beside_their_pickle_and_small_ones_in_it(path):
    values = [Array(bytearray(b"a" * BIG)), [Array(bytearray(b"b" * n)) for n in (1, BIG, BIG + 1)]]
    write_values(path, *values, "plain")
    frames = list(itemfile.read(str(path)))
    assert [list(map(len, frame.buffers)) for frame in frames] == [[BIG], [BIG, BIG + 1], []]
    assert all(len(frame.payload) < 300 for frame in frames)
    assert load(frames[0]).buffer == b"a" * BIG
    assert [bytes(array.buffer) for array in load(frames[1])] == [
        b"b" * n for n in (1, BIG, BIG + 1)
    ]
    assert load(frames[2]) == "plain"
    assert itemfile.count(str(path)) == 3
    assert [extent.values for extent in itemfile.index(str(path), whole=True)] == [1, 1, 1]


def test_a_loaded_buffer_can_be_written_unless_the_original_could_not(path):
    write_values(path, Array(bytearray(BIG)), Array(bytearray(BIG), readonly=True))
    writable, readonly = map(load, itemfile.read(str(path)))
    writable.buffer[0] = 1
    assert writable.buffer[0] == 1
    assert memoryview(readonly.buffer).readonly


def test_a_buffer_may_change_as_soon_as_it_is_taken(path):
    content = bytearray(b"a" * BIG)
    writer = ItemWriter(str(path))
    for number, key in enumerate(["0.0", "0.1"]):
        content[:] = b"%d" % number * BIG
        value = pickled(Array(content))
        writer.value(key, value.payload, buffers=value.buffers)
    content[:] = b"x" * BIG
    writer.end(0, 0)
    writer.close()
    found = list(itemfile.read(str(path)))
    assert [(frame.key, bytes(load(frame).buffer[:1])) for frame in found] == [
        ("0.0", b"0"),
        ("0.1", b"1"),
    ]
    assert itemfile.index(str(path))[0].values == 2


def test_an_abandoned_item_with_buffers_leaves_nothing(path):
    writer = ItemWriter(str(path))
    value = pickled(Array(bytearray(BIG)))
    writer.value("0", value.payload, buffers=value.buffers)
    writer.abandon()
    writer.value("1", b"kept")
    writer.end(1, 1)
    writer.close()
    assert list(itemfile.read(str(path))) == [Frame(itemfile.VALUE, "1", b"kept")]


def test_a_copy_of_what_is_pickled_shares_no_memory():
    array = Array(bytearray(BIG))
    copy = pickled(array).load_copy()
    copy.buffer[0] = 1
    assert array.buffer[0] == 0


def test_a_buffer_in_several_pieces_is_left_to_pickle():
    class Strided:
        def __reduce_ex__(self, protocol):
            return bytes, (pickle.PickleBuffer(memoryview(bytearray(4 * BIG))[::2]),)

    with pytest.raises(pickle.PicklingError, match="contiguous"):
        pickled(Strided())


def test_damage_to_a_file_with_buffers_is_found_wherever_it_is(path):
    write_values(path, Array(bytearray(b"a" * BIG)), Array(bytearray(b"b" * BIG)))
    whole = path.read_bytes()
    second = itemfile.index(str(path))[0].end
    table = len(itemfile.MAGIC) + framing.HEAD_SIZE + 1
    # All of the header, of the table and of the pickle, and some bytes of the buffer.
    places = [
        *range(len(itemfile.MAGIC), table + 200),
        *range(table + 200, second, 7919),
        second - 1,
    ]
    for position in places:
        for bit in range(0, 8, 1 if position < table + 12 else 5):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            assert outcome(itemfile.read, str(path)) == "damaged", (position, bit)
            assert itemfile.index(str(path)) == [], (position, bit)


@pytest.mark.parametrize("left", [0, 1, 3, 4, 11, 12, 100, BIG, BIG + 60])
def test_a_file_cut_off_within_buffers_is_repaired(path, left):
    write_values(path, Array(bytearray(b"a" * BIG)), Array(bytearray(b"b" * BIG)))
    (first, second) = itemfile.index(str(path))
    with path.open("r+b") as file:
        file.truncate(first.end + left)
    assert outcome(itemfile.read, str(path)) == "damaged"
    itemfile.repair(str(path))
    assert path.stat().st_size == first.end < second.end
    ItemWriter(str(path), resume=True).close()
    assert [bytes(load(frame).buffer) for frame in itemfile.read(str(path))] == [b"a" * BIG]


def test_attempts_with_buffers_are_merged(tmp_path):
    old = write_values(tmp_path / "1", Array(bytearray(b"a" * BIG)), Array(bytearray(b"b" * BIG)))
    new = write_values(tmp_path / "2", Array(bytearray(b"c" * BIG)))
    found = [bytes(load(frame).buffer[:1]) for frame in itemfile.merge([old, new])]
    assert found == [b"c", b"b"]


def test_an_empty_file_is_whole(path):
    assert list(itemfile.read(write(path, {}))) == []
    assert itemfile.count(str(path)) == 0
    assert itemfile.index(str(path)) == []


def test_a_new_file_is_for_its_owner_only(path):
    assert Path(write(path)).stat().st_mode & 0o777 == 0o600


def test_a_file_in_place_of_another_is_not_what_an_earlier_writer_writes_to(path):
    lost = ItemWriter(str(path))
    write(path)
    lost.value("0", b"of a job that HTCondor has lost sight of")
    lost.end(0, 0)
    lost.close()
    assert list(itemfile.read(str(path))) == frames()


def test_close_returns_the_size(path):
    writer = ItemWriter(str(path))
    writer.value("0", b"x" * 1000)
    writer.end(0, 0)
    assert writer.close(sync=True) == path.stat().st_size


def test_index_tells_where_each_item_stands(path):
    items = {0: [("0", b"a")], (1, 3): [("1", b"b"), ("1", b"c")], 4: []}
    extents = itemfile.index(write(path, items))
    assert [(e.first, e.last, e.values) for e in extents] == [(0, 0, 1), (1, 3, 2), (4, 4, 0)]
    assert extents[0].start == len(itemfile.MAGIC)
    assert [e.start for e in extents[1:]] == [e.end for e in extents[:-1]]


def test_an_abandoned_item_leaves_nothing(path):
    writer = ItemWriter(str(path))
    writer.value("0", b"kept")
    writer.end(0, 0)
    writer.value("1.0", b"dropped")
    writer.value("1.1", b"dropped too")
    writer.abandon()
    writer.value("2", b"kept as well")
    writer.end(2, 2)
    writer.value("3", b"never ended")
    writer.close()
    assert [frame.payload for frame in itemfile.read(str(path))] == [b"kept", b"kept as well"]
    assert itemfile.finished([str(path)]) == [(0, 0), (2, 2)]
    assert itemfile.count(str(path)) == 2


def test_rewind_drops_finished_items_after_the_mark(path):
    writer = ItemWriter(str(path))
    writer.value("0", b"a")
    writer.end(0, 0)
    mark = writer.mark
    writer.value("0", b"b" * 1000)
    writer.end(0, 1)
    writer.rewind(mark)
    writer.value("0", b"c")
    writer.end(1, 2)
    writer.close()
    assert [frame.payload for frame in itemfile.read(str(path))] == [b"a", b"c"]
    assert itemfile.finished([str(path)]) == [(0, 2)]


def test_flushed_items_outlive_a_writer_that_is_never_closed(path):
    writer = ItemWriter(str(path), flush=True)
    writer.value("0", b"a")
    writer.end(0, 0)
    try:
        assert itemfile.finished([str(path)]) == [(0, 0)]
    finally:
        writer.discard()


def test_a_missing_file_is_damaged(path):
    with pytest.raises(DamagedFile, match="missing") as caught:
        list(itemfile.read(str(path)))
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)


def test_another_kind_of_file_is_damaged(path):
    path.write_text("a text that is long enough to hold a header and a trailer" * 3)
    for function in (itemfile.read, itemfile.count, itemfile.index):
        assert outcome(function, str(path)) == "damaged"


def test_every_truncation_is_found(path):
    write(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert outcome(itemfile.read, str(path)) == "damaged", length
        assert outcome(itemfile.count, str(path)) == "damaged", length


def test_every_flipped_bit_is_found(path):
    write(path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            assert outcome(itemfile.read, str(path)) == "damaged", (position, bit)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_changed_byte_is_found(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed.items"
    write(path)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert outcome(itemfile.read, str(path)) == "damaged"


def test_a_wrong_count_in_a_sound_trailer_is_found(path):
    write(path)
    data = framing.COUNT.pack(99)
    header = framing.HEADER.pack(itemfile.TRAILER, 0, 0, 0, 0, len(data))
    checksum = framing.CRC.pack(zlib.crc32(data, zlib.crc32(header)))
    path.write_bytes(path.read_bytes()[: -framing.TRAILER_SIZE] + header + checksum + data)
    for reader in (itemfile.read, lambda name: itemfile.index(name, whole=True)):
        with pytest.raises(DamagedFile, match="number of values"):
            list(reader(str(path)))
    assert [extent.first for extent in itemfile.index(str(path))] == list(ITEMS)


def test_repair_cuts_to_the_finished_items_at_every_length(path):
    write(path)
    whole = path.read_bytes()
    ends = [(extent.first, extent.end) for extent in itemfile.index(str(path))]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        itemfile.repair(str(path))
        kept = [sequence for sequence, end in ends if end <= length]
        ItemWriter(str(path), resume=True).close()
        assert list(itemfile.read(str(path))) == frames({n: ITEMS[n] for n in kept}), length
        assert [extent.first for extent in itemfile.index(str(path))] == kept, length


def test_repair_keeps_what_stands_before_any_flipped_bit(path):
    write(path)
    whole = path.read_bytes()
    extents = itemfile.index(str(path))
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            itemfile.repair(str(path))
            magic = position < len(itemfile.MAGIC)
            before = [] if magic else [extent for extent in extents if extent.end <= position]
            assert itemfile.index(str(path)) == before, (position, bit)


def test_repair_makes_a_missing_or_foreign_file_an_empty_one(path):
    for content in (None, b"", b"nonsense" * 20):
        if content is not None:
            path.write_bytes(content)
        itemfile.repair(str(path))
        assert path.read_bytes() == itemfile.MAGIC
        path.unlink()


def test_a_repaired_file_can_be_continued(path):
    write(path, {0: [("0", b"a")], 1: [("1", b"b")]}, close=False)
    itemfile.repair(str(path))
    writer = ItemWriter(str(path), resume=True)
    assert writer.values == 2
    writer.value("2", b"c")
    writer.end(2, 2)
    writer.close()
    assert [frame.payload for frame in itemfile.read(str(path))] == [b"a", b"b", b"c"]
    assert itemfile.count(str(path)) == 3


def singles(*sequences):
    return {n: [(str(n), b"%d" % n)] for n in sequences}


def reconciled(folder, *files):
    """Unfinished files after they were made to agree, and what they agree on."""
    paths = [write(folder / str(n), items, close=False) for n, items in enumerate(files)]
    common = itemfile.reconcile(paths)
    assert all(itemfile.finished([path]) == common for path in paths)
    return common, paths


def test_reconciled_files_have_the_items_that_all_of_them_had(tmp_path):
    common, paths = reconciled(tmp_path, singles(0, 1, 2, 3, 5), singles(1, 2, 4, 5), {(1, 5): []})
    assert common == []
    common, paths = reconciled(tmp_path, singles(0, 1, 2, 3, 5), singles(1, 2, 4, 5), {(1, 2): []})
    assert common == [(1, 2)]
    ItemWriter(paths[0], resume=True).close()
    assert [frame.payload for frame in itemfile.read(paths[0])] == [b"1", b"2"]


def test_files_that_agree_are_left_alone(tmp_path):
    paths = [write(tmp_path / name, singles(0, 2, 3), close=False) for name in "ab"]
    before = [Path(path).stat().st_ino for path in paths]
    assert itemfile.reconcile(paths) == [(0, 0), (2, 3)]
    assert [Path(path).stat().st_ino for path in paths] == before


def test_a_combined_range_counts_as_a_whole_or_not_at_all(tmp_path):
    ranges = {(0, 5): [("0", b"sum of 0 to 5")], **singles(7)}
    common, _ = reconciled(tmp_path, ranges, singles(0, 1, 2, 3, 7))
    assert common == [(7, 7)]


def test_dropping_one_range_may_drop_another(tmp_path):
    # 3 is missing in the last, so 2-3 goes from the second, so 1-2 from the first, and so on.
    files = {(1, 2): [], 9: []}, {(2, 3): [], 1: [], 9: []}, {1: [], 2: [], 9: []}
    assert reconciled(tmp_path, *files)[0] == [(9, 9)]


@given(st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=3), st.data())
@settings(max_examples=50, deadline=None)
def test_reconciled_files_never_disagree(tmp_path_factory, finished, data):
    folder = tmp_path_factory.mktemp("reconcile")
    files = []
    for numbers in finished:
        items = {}
        for first, last in itemfile.to_ranges(numbers):
            cut = data.draw(st.integers(first, last))
            items[first, cut] = []
            if cut < last:
                items[cut + 1, last] = []
        files.append(items)
    common, _ = reconciled(folder, *files)
    agreed = {n for first, last in common for n in range(first, last + 1)}
    assert agreed <= set.intersection(*finished)


def test_merge_of_attempts_is_the_plain_order(tmp_path):
    items = {n: [(f"{n}.{k}", b"%d" % n) for k in range(n % 3)] for n in range(9)}
    attempts = [{0, 3, 4}, {8}, {1, 2, 5, 6, 7}]
    paths = [
        write(tmp_path / f"{number}.items", {n: items[n] for n in sorted(done)})
        for number, done in enumerate(attempts)
    ]
    assert list(itemfile.merge(paths)) == frames(items)
    assert itemfile.merged_count(paths) == len(frames(items))


def test_merge_of_one_file_is_the_file(path):
    write(path)
    assert list(itemfile.merge([str(path)])) == frames()
    assert itemfile.merged_count([str(path)]) == len(frames())


def test_merge_of_no_files_is_empty():
    assert list(itemfile.merge([])) == []
    assert itemfile.merged_count([]) == 0


def test_merge_takes_the_later_of_two_attempts_at_an_item(tmp_path):
    old = write(tmp_path / "1", {0: [("0", b"old"), ("0", b"old")], 1: [("1", b"same")]})
    new = write(tmp_path / "2", {0: [("0", b"new")]})
    assert [frame.payload for frame in itemfile.merge([old, new])] == [b"new", b"same"]
    assert itemfile.merged_count([old, new]) == 2


def test_merge_puts_combined_ranges_in_item_order(tmp_path):
    one = write(tmp_path / "1", {(0, 2): [("0", b"a")], (6, 6): [("0", b"c")]})
    two = write(tmp_path / "2", {(3, 5): [("0", b"b")]})
    assert [frame.payload for frame in itemfile.merge([one, two])] == [b"a", b"b", b"c"]


def test_merge_finds_every_flipped_bit_of_each_of_several_files(tmp_path):
    paths = [
        write(tmp_path / "1", {0: [("0", b"a")], 2: [("2", b"c")]}),
        write(tmp_path / "2", {1: [("1", b"b")]}),
    ]
    right = list(itemfile.merge(paths))
    for path in map(Path, paths):
        whole = path.read_bytes()
        # All but the trailer: what it says is not needed to tell that all items are there.
        for position in range(len(whole) - framing.TRAILER_SIZE):
            for bit in range(8):
                damaged = bytearray(whole)
                damaged[position] ^= 1 << bit
                path.write_bytes(damaged)
                assert outcome(itemfile.merge, paths) in ("damaged", right), (position, bit)
        path.write_bytes(whole)


def test_merge_finds_a_truncated_file(tmp_path):
    paths = [
        write(tmp_path / "1", {0: [("0", b"a")], 2: [("2", b"c")]}),
        write(tmp_path / "2", {1: [("1", b"b")]}),
    ]
    whole = Path(paths[0]).read_bytes()
    for length in range(len(whole) - framing.TRAILER_SIZE):
        Path(paths[0]).write_bytes(whole[:length])
        assert outcome(itemfile.merge, paths) == "damaged", length


def test_finished_are_the_items_that_all_files_have(tmp_path):
    one = write(tmp_path / "1", {0: [], 1: [], 2: [], 5: []})
    two = write(tmp_path / "2", {(0, 1): [], (4, 5): []})
    assert itemfile.finished([one]) == [(0, 2), (5, 5)]
    assert itemfile.finished([one, two]) == [(0, 1), (5, 5)]
    assert itemfile.finished([]) == []


@pytest.mark.parametrize(
    ("numbers", "ranges"),
    [
        ([], []),
        ([4], [(4, 4)]),
        ([3, 1, 2], [(1, 3)]),
        ([0, 1, 3, 5, 6], [(0, 1), (3, 3), (5, 6)]),
    ],
)
def test_ranges_are_sorted_and_as_few_as_can_be(numbers, ranges):
    assert itemfile.to_ranges(numbers) == ranges


@given(st.sets(st.integers(0, 50)))
def test_ranges_hold_just_the_numbers(numbers):
    ranges = itemfile.to_ranges(numbers)
    assert {n for first, last in ranges for n in range(first, last + 1)} == numbers
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(ranges))


def test_an_extent_is_what_index_gives(path):
    write(path, {0: []})
    assert isinstance(itemfile.index(str(path))[0], Extent)
