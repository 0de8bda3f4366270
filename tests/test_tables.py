"""Tables of any dialect and size: the same values wherever blocks end, and clear words where they are wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.catalog import feature_columns, feature_sets
from featurestore.catalog.import_features import import_table
from featurestore.datasets import tables
from featurestore.errors import FeatureStoreError, UsageError
from featurestore.store.store import Store
from tests.import_cases import read, write

FLOATS = {0: pa.string(), 1: pa.float32(), 2: pa.float32()}
ROWS = "s1,0.5,1\ns2,1.5,2\n"


@pytest.mark.parametrize("block_bytes", [100, 161, 1000, 1 << 20])
def test_quoted_line_breaks_do_not_care_where_blocks_end(tmp_path: Path, block_bytes: int) -> None:
    rng = np.random.default_rng(0)
    texts = ["\n".join(["x", ", y", '"quoted"'] * int(n)) for n in rng.integers(0, 3, 200)]
    frame = pd.DataFrame({"id": texts, "a": rng.normal(size=200), "b": rng.normal(size=200)})
    frame["id"] += [str(i) for i in range(200)]
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = tables.inspect(str(tmp_path / "t.csv"))
    batches = list(table.batches(FLOATS, block_bytes=block_bytes))
    assert len(batches) > 1 or block_bytes > 1000
    got = pa.Table.from_batches(batches).to_pandas()
    assert got["0"].tolist() == frame["id"].tolist()
    np.testing.assert_array_equal(got[["1", "2"]].to_numpy(), frame[["a", "b"]].to_numpy(np.float32))


def test_numbers_are_the_nearest_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 4000) * 10.0 ** rng.integers(-6, 7, 4000)
    # the last ones are near the middle of two float32
    cells = [*(f"{v:.10g}" for v in values), "1e22", "-0.0", "16777217", "4.000000715255737", "1.00000005960464478"]
    write(tmp_path / "t.csv", "id,a,b\n" + "".join(f"s,{c},{c}\n" for c in cells))
    got = tables.inspect(str(tmp_path / "t.csv")).read(FLOATS)["1"].to_numpy()
    expected = pa.array(cells).cast(pa.float32()).to_numpy()
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("semicolon.csv", ("id;a;b\n" + ROWS.replace(",", ";")).encode()),
        ("tab.csv", ("id\ta\tb\n" + ROWS.replace(",", "\t")).encode()),
        ("utf16.csv", ("id,a,b\n" + ROWS).encode("utf-16")),
        ("utf16be.tsv", b"\xfe\xff" + ("id\ta\tb\n" + ROWS.replace(",", "\t")).encode("utf-16-be")),
        ("mark.csv", b"\xef\xbb\xbf" + ("id,a,b\n" + ROWS).encode()),
        ("mac.csv", ("id,a,b\n" + ROWS).replace("\n", "\r").encode()),
        ("windows.csv", ("id,a,b\n" + ROWS).replace("\n", "\r\n").encode()),
        ("no_end.csv", ("id,a,b\n" + ROWS).rstrip().encode()),
        ("quoted_header.csv", ('"id","a","b"\n' + ROWS).encode()),
    ],
)
def test_every_dialect_gives_the_same_table(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    table = tables.inspect(str(tmp_path / name))
    assert table.names == ("id", "a", "b")
    assert [table.is_number(i) for i in range(3)] == [False, True, True]
    assert table.read(FLOATS).to_pydict() == {"0": ["s1", "s2"], "1": [0.5, 1.5], "2": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        (",mfcc,mfcc\n,mean,std\ns0,1,2\n", ["", "mfcc/mean", "mfcc/std"], 1),  # pandas, two levels without names
        (",a,a,z\n,m,m,z\n,01,02,01\ns0,1,2,3\n", ["", "a/m/01", "a/m/02", "z/z/01"], 1),
        (
            "feature,a,b\nstatistics,mean,mean\nnumber,01,01\ntrack_id,,\n1,2,3\n",
            ["track_id", "a/mean/01", "b/mean/01"],
            1,
        ),
        (",a,b\nx.wav,,\ny.wav,,\n", ["", "a", "b"], 2),  # empty rows are no header
        ('"a\nlong name",b\n1,2\n', ["a\nlong name", "b"], 1),
    ],
)
def test_header_rows_of_every_kind(tmp_path: Path, text: str, names: list[str], rows: int) -> None:
    table = tables.inspect(write(tmp_path / "t.csv", text))
    assert list(table.names) == names
    assert len(table.read({0: pa.string()})) == rows


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"id,a\ns1,0.5\ns2,loud\n", r"row 3, column 'a': expected a number, found 'loud'"),
        (b"id,a\ns1,0.5\ns2\n", r"Row #3: Expected 2 columns, got 1"),
        (b"id,a\ns1,0.5\ns2,1,2\n", r"Row #3: Expected 2 columns, got 3"),
        (b"id,a\nm\xfcsli,0.5\n", r"row 2, column 'id': expected text in UTF-8, found invalid UTF8 data"),
        ("id,a\ns1,1\n".encode("utf-16-le"), r"expected a CSV table in UTF-8 or UTF-16, found NUL bytes"),
        (b"id\ns1\n", r"header row of two columns or more"),
        (b"", r"header row of two columns or more"),
        (b'id,a\n"' + b"x" * (13 << 20) + b'",1\n', r"a row, or a quotation that nothing ends, is longer than 4 MB"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(FeatureStoreError, match=rf"t\.csv: .*{message}"):
        tables.inspect(str(tmp_path / "t.csv")).read({0: pa.string(), 1: pa.float32()})


def test_decimal_commas_are_refused_in_words(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "track_id;a\n1;0,5\n2;1,5\n")
    with pytest.raises(UsageError, match=r"column 'a' has numbers with a decimal comma \(0,5\)[\s\S]*0\.5, not 0,5"):
        feature_columns.inspect(table)


def test_row_groups_do_not_depend_on_how_the_table_was_read(url: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    frame = pd.DataFrame(values, index=pd.Index(list(range(1, 41)), name="track_id")).add_prefix("c")
    frame.to_csv(tmp_path / "t.csv")
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=7)
    store = Store.open(url)
    for kind in ("csv", "parquet"):
        table = feature_columns.inspect(str(tmp_path / f"t.{kind}"))
        report = feature_sets.write(
            store, kind, table, lambda ids: feature_sets.known_numbers(ids, np.arange(1, 41)), row_group_rows=11
        )
        assert report.matched == 40
        got = store.read_catalog(f"features_{kind}").to_pandas().set_index("track_id")
        np.testing.assert_array_equal(got.to_numpy(), values)
        groups = pq.read_metadata(store.feature_set_path(kind))
        assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [11, 11, 11, 7]


@pytest.mark.parametrize("rows", [1, 5, 11, 100])
def test_regrouped_rows_keep_their_order(rows: int) -> None:
    values = pa.RecordBatch.from_pydict({"a": list(range(40)), "b": [0.5, float("inf"), None, float("nan")] * 10})
    for cuts in ((0, 40), (0, 3, 3, 25, 40), (0, 11, 22, 33, 40)):
        parts = [values.slice(i, j - i) for i, j in itertools.pairwise(cuts)]
        groups = list(feature_sets._regrouped(parts, rows))
        assert [v for group in groups for v in group["a"].to_pylist()] == list(range(40))
        assert [v for group in groups for v in group["b"].to_pylist()] == [0.5, None, None, None] * 10
        assert all(len(group) == rows for group in groups[:-1])


def test_text_with_line_breaks_beside_the_features(url: str, tmp_path: Path) -> None:
    lyrics = '"one\ntwo, three\n' + "x" * 1200 + '"'
    rows = "".join(f"{i % 40 + 1},{lyrics},{i / 7}\n" for i in range(40)) + "".join(
        f"99,{lyrics},1\n" for _ in range(4000)
    )
    table = write(tmp_path / "t.csv", "track_id,lyrics,a\n" + rows)
    assert (tmp_path / "t.csv").stat().st_size > tables.BLOCK_BYTES
    report = import_table(url, "mine", table, skip_columns=["lyrics"], ignore_unknown=True)
    assert (report.rows, report.matched) == (4040, 40)
    assert read(url, "mine")[39] == {"track_id": 40, "a": float(np.float32(39 / 7))}
