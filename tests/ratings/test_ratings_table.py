"""Reading ratings: every bad row named with its line, whole messages, and a straightforward reader as the reference."""

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ratings_files import write_rows

from convscope.data import ratings_table
from convscope.data.ratings_table import SkippedRow, holds_ratings, read_ratings
from convscope.errors import DataError

HEADER = "The first line must name the columns user, item and rating, and may name timestamp; others are ignored."


def message_of(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_ratings(path)
    return str(error.value)


def as_dictionary(table):
    return {
        (table.users[u], table.items[i]): rating
        for u, i, rating in zip(table.users_N, table.items_N, table.ratings_N.tolist(), strict=True)
    }


def test_rows_become_numbers_in_the_order_in_which_names_come(tmp_path):
    table = read_ratings(write_rows(tmp_path / "r.csv", "ann,Alien,5", "bob,Alien,3.5", "ann,Brazil,1"))
    assert (table.users, table.items) == (("ann", "bob"), ("Alien", "Brazil"))
    assert table.users_N.tolist() == [0, 1, 0]
    assert table.items_N.tolist() == [0, 0, 1]
    assert table.ratings_N.tolist() == [5, 3.5, 1]
    assert table.lines_N.tolist() == [2, 3, 4]
    assert table.times_N is None
    assert table.skipped_count == 0


def test_other_columns_orders_delimiters_and_names_are_understood(tmp_path):
    path = write_rows(tmp_path / "m.csv", "4;7;100;1", "5;8;50;2", header="Rating;movieId;timestamp;userId")
    table = read_ratings(path)
    assert as_dictionary(table) == {("1", "7"): 4, ("2", "8"): 5}
    assert table.times_N.tolist() == [100, 50]


def test_bad_rows_are_named_with_their_line_and_the_others_are_kept(tmp_path):
    rows = [
        "ann,Alien,5",
        "ann,Brazil,good",
        ",Brazil,3",
        "bob,,3",
        "bob,Brazil",
        "",
        "bob,Alien,nan",
        '"two\nlines",Alien,2',
        "bob,Brazil,",
    ]
    table = read_ratings(write_rows(tmp_path / "r.csv", *rows))
    assert as_dictionary(table) == {("ann", "Alien"): 5, ("two\nlines", "Alien"): 2}
    assert list(table.skipped()) == [
        SkippedRow(3, "the rating 'good' is no number"),
        SkippedRow(4, "no user"),
        SkippedRow(5, "no item"),
        SkippedRow(6, "2 columns, where the header has 3 or more"),
        SkippedRow(8, "the rating 'nan' is no number"),
        SkippedRow(11, "no rating"),
    ]


def test_the_first_of_repeated_ratings_is_kept_or_the_newest_where_times_are_given(tmp_path):
    table = read_ratings(write_rows(tmp_path / "r.csv", "ann,Alien,5", "bob,Alien,2", "ann,Alien,1"))
    assert as_dictionary(table) == {("ann", "Alien"): 5, ("bob", "Alien"): 2}
    assert list(table.skipped()) == [SkippedRow(4, "rated again: line 2 is kept")]
    header = "user,item,rating,timestamp"
    table = read_ratings(write_rows(tmp_path / "t.csv", "ann,Alien,5,10", "bob,Alien,2,11", "ann,Alien,1,12", header=header))
    assert as_dictionary(table) == {("ann", "Alien"): 1, ("bob", "Alien"): 2}
    assert list(table.skipped()) == [SkippedRow(2, "rated again: line 4 is kept")]


cells = st.sampled_from(["a", "b", "c ", "", "1", "2.5", "x", "inf"])


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=25), piece=st.integers(1, 6))
def test_pieces_of_any_size_read_what_a_plain_loop_reads(rows, piece, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "r.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["user", "item", "rating"], *rows])
    expected, skipped = {}, 0
    for row in rows:
        user, item, rating = ([cell.strip() for cell in row] + ["", "", ""])[:3]
        try:
            good = bool(user and item) and np.isfinite(float(rating))
        except ValueError:
            good = False
        if good and (user, item) not in expected:
            expected[user, item] = float(rating)
        else:
            skipped += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ratings_table, "ROWS_AT_ONCE", piece)
        patch.setattr(ratings_table, "BLOCK", 7 * piece)
        if not expected:
            assert f"holds no rating that can be used; {len(rows):,} rows were looked at." in message_of(path)
            return
        table = read_ratings(path)
    assert as_dictionary(table) == expected
    assert table.skipped_count == skipped


plain = st.text(st.sampled_from("ab1\u00e9\u3042 \u3000"), max_size=4)
good = st.sampled_from(["1", "4.5", "0", " 3", "1e1", "-2", "123456789012345", "1234567890123456"])
bad = st.sampled_from(["", "x", "nan", "1_0"])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(plain, plain, st.one_of(good, good, good, bad), good), max_size=30),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoted=st.booleans(),
    block=st.integers(1, 300),
)
def test_whole_blocks_give_what_rows_give(rows, end, quoted, block, tmp_path_factory):
    """The same table, and every row left out named with the same line and reason, whatever the size of a block."""
    path = tmp_path_factory.mktemp("blocks") / "r.csv"
    lines = ["user,item,rating,timestamp", *(",".join(row) for row in rows), *(['"q",b,1,2'] if quoted else [])]
    path.write_bytes(end.join(lines).encode() + (end.encode() if len(rows) % 2 else b""))

    def read(*patches):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in patches:
                patch.setattr(ratings_table, name, value)
            try:
                table = read_ratings(path)
            except DataError as error:
                return str(error)
        columns = (table.users_N, table.items_N, table.ratings_N, table.times_N, table.lines_N)
        return table.users, table.items, *(column.tolist() for column in columns), list(table.skipped())

    by_rows = read(("plain_block", lambda *_: None))
    assert read(("BLOCK", block)) == read() == by_rows


def test_plain_blocks_are_not_read_row_by_row(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "r.csv", *(f"u{n % 7},i{n},{n % 5 + 0.5}" for n in range(100)))
    monkeypatch.setattr(ratings_table, "_reason", None)
    monkeypatch.setattr(ratings_table.csv, "reader", lambda lines, **options: iter([lines[0].strip().split(",")]))  # of the header alone
    assert len(read_ratings(path).ratings_N) == 100


def test_text_that_is_no_utf8_is_found_anywhere_in_the_file(tmp_path):
    start = b"user,item,rating\n" + b"ann,Alien,5\n" * 3000
    for there, rest in ((b"", b"\xff,a,1\n"), (b'"b",c,1\n', b"\xff,a,1\n"), (b"", b"\xc3")):
        path = tmp_path / "r.csv"
        path.write_bytes(start + there + rest)
        assert f" at byte {len(start + there):d}). Save it as CSV UTF-8." in message_of(path)


def test_messages(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("")
    assert message_of(path) == f"{path} is empty. {HEADER}"
    path.write_text("user,item\nann,Alien\n")
    assert message_of(path) == f"{path} has no column rating; it has 'user', 'item'. {HEADER}"
    path.write_text("name,film,stars\n")
    assert (
        message_of(path) == f"{path} has no column user and no column item and no column rating; it has 'name', 'film', 'stars'. {HEADER}"
    )
    path.write_text("user,item,rating\n")
    assert message_of(path) == f"{path} holds no rating that can be used; 0 rows were looked at. {HEADER}"
    path.write_text("user,item,rating\nann,Alien,great\n")
    first = "The first: line 2: the rating 'great' is no number."
    assert message_of(path) == f"{path} holds no rating that can be used; 1 rows were looked at. {first} {HEADER}"
    path.write_bytes(b"user,item,rating\n\xff\xfe,a,1\n")
    assert message_of(path) == f"{path} is not text in UTF-8 (invalid start byte at byte 17). Save it as CSV UTF-8."
    path.write_text('user,item,rating\n"ann,Alien,5\n')
    assert message_of(path) == f"{path} is not a CSV: unexpected end of data. {HEADER}"


def test_a_file_of_ratings_is_recognised_by_its_columns(tmp_path):
    assert holds_ratings(write_rows(tmp_path / "r.csv", header="item\trating\tuser"))
    assert not holds_ratings(write_rows(tmp_path / "p.csv", header="path,label"))
    assert not holds_ratings(tmp_path / "missing.csv")


def test_memory_is_bounded_and_grows_with_the_rows_alone(tmp_path):
    peaks = []
    for rows in (100_000, 200_000):
        path = write_rows(tmp_path / f"{rows}.csv", *(f"{n % 1000},{n // 1000},{n % 5 + 1}" for n in range(rows)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ratings_table, "BLOCK", 100_000)
            tracemalloc.start()
            read_ratings(path)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 100_000 < 100  # bytes a row
