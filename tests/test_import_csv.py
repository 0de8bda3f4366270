"""CSV tables of a gigabyte: blocks, threads, and the parser of plain numbers, against pyarrow and pandas."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from featurestore.catalog import feature_sets, feature_table
from featurestore.catalog.import_features import import_table
from featurestore.datasets import csv_blocks, csv_numbers
from featurestore.store.store import Store
from tests.import_cases import read, write


def test_blocks_and_row_groups_lose_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    frame = pd.DataFrame(values, index=pd.Index(list(range(1, 41)), name="track_id"))
    frame.columns = frame.columns.astype(str)
    frame.to_csv(tmp_path / "t.csv")
    frame.to_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 500)  # less than two lines
    monkeypatch.setattr(feature_table, "PARQUET_ROWS", 7)
    monkeypatch.setattr(feature_sets, "ROW_GROUP_ROWS", 11)
    for kind in ("csv", "parquet"):
        import_table(url, kind, str(tmp_path / f"t.{kind}"))
        got = Store.open(url).read_catalog(f"features_{kind}").to_pandas().set_index("track_id")
        np.testing.assert_allclose(got.to_numpy(), frame.to_numpy(), rtol=1e-6)
        assert got.index.tolist() == list(range(1, 41))
        path = Store.open(url).feature_set_path(kind)
        assert pq.read_metadata(path).num_row_groups > 2


def test_row_groups_do_not_depend_on_how_the_table_was_read(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"{i},{i / 7},{-i}\n" for i in range(1, 41))
    table, path = write(tmp_path / "t.csv", "track_id,a,b\n" + lines), Path(Store.open(url).feature_set_path("mine"))
    monkeypatch.setattr(feature_sets, "ROW_GROUP_ROWS", 11)
    found = set()
    for block, fast in ((1 << 20, 1 << 30), (64, 1 << 30), (64, 0), (1, 0)):
        monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", block)
        monkeypatch.setattr(feature_table, "FAST_BYTES", fast)
        import_table(url, "mine", table)
        found.add(path.read_bytes())
    assert len(found) == 1
    groups = pq.read_metadata(path)
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [11, 11, 11, 7]


@pytest.mark.parametrize("block_bytes", [8, 160])
def test_header_rows_and_lines_longer_than_a_block(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", block_bytes)
    names = ["a" * 50, "b" * 90]
    header = "feature," + ",".join(names) + "\nstatistics,mean,mean\nnumber,01,01\ntrack_id,,\n"
    import_table(url, "mine", write(tmp_path / "t.csv", header + "1,2,3\n2,12345678.25,0.0000000000000001"))
    assert [list(r.values()) for r in read(url, "mine")] == [[1, 2.0, 3.0], [2, 12345678.0, float(np.float32(1e-16))]]


def test_a_block_is_not_overwritten_before_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 64)
    lines = "".join(f"{i},{i / 7}\n" for i in range(100))

    def slow(block: memoryview) -> bytes:
        time.sleep(0.005)
        return bytes(block)

    path = write(tmp_path / "t.csv", "a,b\n" + lines)
    found = csv_blocks.parallel(path, ["a", "b"], 1, {0: pa.string()}, lambda batch: b"", fast=slow)
    assert b"".join(found) == lines.encode()


PLAIN = [
    *(
        "0",
        "-0",
        "-0.0",
        "-0.5",
        "+7",
        "12.",
        ".25",
        "-.5",
        "1e3",
        "1.5E-05",
        "-2.5e+2",
        "2.5e-03",
        "1.e+01",
        "007",
        "",
    ),
    *("1234567", "12345678", "123456789", "-12345678", "1234567.5", "12345678.5", "123456789.5", "123456789012345678"),
    *("0.0000012345", "0.1234567890123456", "-0.12345678901234567", "00000000.00000001", "7.1806526184e+00", "1e22"),
    # near the middle of two float32: a double in between would round twice, and to the wrong one
    *(
        "16777217",
        "16777219",
        "16777217.0",
        "4.000000715255737",
        "-16777217.000000001",
        "-1213025.0625",
        "1.2130251875e+06",
        "1.00000005960464478",
        "-1.00000005960464477",
        "1.0000001788139342",
    ),
]
FILLER = b"5,0.1250000000,-31.5000000000,7.5000000000e-01\n"


def as_pyarrow_reads(cells: list[str]) -> np.ndarray:
    texts = pa.array(cells, pa.string())
    return texts.filter(pc.not_equal(texts, "")).cast(pa.float32()).to_numpy()


def test_the_parser_of_plain_numbers_gives_the_nearest_float32() -> None:
    rng = np.random.default_rng(0)
    random = rng.normal(0, 1, 4000) * 10.0 ** rng.integers(-6, 7, 4000)
    forms = [f"{{v:{f}}}" for f in (".10f", ".10e", ".3f", ".9g", ".17g", ".0f")]
    cells = [*PLAIN, *(form.format(v=v) for form in forms for v in random)]
    read, left = [], []
    for cell in cells:
        # the first row and the last are too near the ends of the text to be read in whole words
        found = csv_numbers.parse(FILLER + f"6,{cell},1,{cell}\n".encode() + 2 * FILLER, 4, 0, (1, 2, 3))
        if found is None:
            left.append(cell)
            continue
        ids, values = found
        assert ids.tolist() == [5, 6, 5, 5]
        np.testing.assert_array_equal(values[:, 0], np.float32([0.125, -31.5, 0.75]))
        np.testing.assert_array_equal(values[:, [2, 3]], values[:, [0, 0]])
        np.testing.assert_array_equal(values[0, 1], values[2, 1])
        read.append((cell, values[0, 1]))
    # left to pyarrow: what is too near a middle, and nothing else
    assert {"4.000000715255737", "-16777217.000000001", "1.00000005960464478"} <= set(left)
    assert len(left) < 10, left
    assert all(np.isnan(v) for c, v in read if c == "")
    plain = [(c, v) for c, v in read if c]
    expected = as_pyarrow_reads([c.removeprefix("+") for c, _ in plain])
    np.testing.assert_array_equal(np.float32([v for _, v in plain]).view(np.uint32), expected.view(np.uint32))


def test_the_parser_of_plain_numbers_equals_pyarrow(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    cells = [*PLAIN, *(f"{v:.{d}g}" for d in (3, 9, 17) for v in rng.normal(0, 10.0 ** rng.integers(-5, 5, 40)))]
    rows = [[str(i + 1), "text", *rng.choice(cells, 9)] for i in range(40)]
    for odd, name in ((None, "plain"), ("nan", "nan"), ("inf", "inf"), ("1.0000000000000000000001", "long")):
        if odd:
            rows[20][5] = odd
        text = "track_id,name,a,b,c,d,e,f,g,h,i\r\n" + "\r\n".join(",".join(r) for r in rows)
        table = write(tmp_path / "t.csv", text)
        import_table(url, "general", table, skip_columns=["name"])
        with monkeypatch.context() as patch:
            patch.setattr(feature_table, "FAST_BYTES", 0)
            patch.setattr(csv_blocks, "BLOCK_BYTES", 700)
            import_table(url, "fast", table, skip_columns=["name"])
        general, fast = (Store.open(url).read_catalog(f"features_{n}") for n in ("general", "fast"))
        assert fast.equals(general), name


@pytest.mark.parametrize("around", [b"", FILLER.replace(b",7.5000000000e-01", b"")], ids=["alone", "among others"])
@pytest.mark.parametrize(
    ("lines", "parsed"),
    [
        (b"1,2,3\n", [[1], [2.0], [3.0]]),
        (b"1,,3\n2,4,5\n", [[1, 2], [None, 4.0], [3.0, 5.0]]),
        *((bad, None) for bad in (b"1,2\n", b"1,2,3,4\n", b"x,2,3\n", b",2,3\n", b"1.0,2,3\n", b"-1,2,3\n")),
        *((bad, None) for bad in (b'1,"2",3\n', b"1,-,3\n", b"1,.,3\n", b"1,1e,3\n", b"1,1e99,3\n", b"1, 2,3\n")),
        *((bad, None) for bad in (b"1,1.2.3,4\n", b"1,2,1234567890123456789\n", b"1,2,3\n\n", b"1e3,2,3\n")),
        *((bad, None) for bad in (b"1,12345678x25,3\n", b"1,0.1234567890123456789,3\n", b"1,1:5,3\n", b"1,1/5,3\n")),
        *(
            (bad, None)
            for bad in (
                b"1,e+01,3\n",
                b"1,1.5e+0x,3\n",
                b"1,1.5e*01,3\n",
                b"1,1.25e+0:,3\n",
                b"1,--1.5,3\n",
                b"1,1.5-,3\n",
            )
        ),
        *((bad, None) for bad in (b"1,2.5,9.9e+38\n", b"1,1\xba5.25,3\n", b"1,-.,3\n", b"1,nan,3\n", b"1,2,3\r\r\n")),
    ],
)
def test_the_parser_of_plain_numbers_knows_its_limits(
    lines: bytes, parsed: list[list[float | None]] | None, around: bytes
) -> None:
    found = csv_numbers.parse(around + lines + 2 * around, 3, 0, (1, 2))
    if parsed is None or found is None:
        assert found is parsed
        return
    rows = slice(1, 1 + len(parsed[0])) if around else slice(None)
    plain = [[None if v != v else v for v in column[rows].tolist()] for column in (found[0], *found[1])]
    assert plain == parsed


def test_a_last_line_without_an_end_counts() -> None:
    found = csv_numbers.parse(b"1,,3\n2,4,5", 3, 0, (1, 2))
    assert found is not None
    assert found[0].tolist() == [1, 2]
    assert found[1][:, 1].tolist() == [4.0, 5.0]
