"""What `python -m warehouse` prints and writes: every type in every format, where a result may go, Ctrl-C."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warehouse
from featurestore import registry
from featurestore.errors import EXIT_INTERRUPTED
from featurestore.store.store import Store
from featurestore.terminal import cli, tables
from tests.builds import ROOT
from tests.factories import make_store
from warehouse.__main__ import main

FORMATS = ("table", "csv", "json", "markdown", "parquet")
ENDLESS = "SELECT sum(a.t * b.q) FROM range(100000000) a(t), range(100000) b(q)"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(str(tmp_path_factory.mktemp("output") / "store"), tracks=12)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ask(store: Store, *arguments: str) -> int:
    return cli.run(main, [*arguments, "--store", store.url])


def answer(store: Store, sql: str, format: str) -> list[dict[str, object]]:
    """The rows that a query leaves in a file of this format."""
    path = Path(f"answer.{format}")
    assert ask(store, sql, "--format", format, "--output", str(path)) == 0
    if format == "json":
        return json.loads(path.read_text())
    if format == "parquet":
        return pq.read_table(path).to_pylist()
    if format == "csv":
        with path.open() as f:
            return list(csv.DictReader(f))
    head, _, *rows = (line.strip("| ").split(" | ") for line in path.read_text().splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


# ---------------------------------------------------------------- every type, whole


@pytest.mark.parametrize("format", FORMATS)
def test_every_type_of_duckdb_prints(store: Store, format: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = [r[0] for r in warehouse.connect(store).execute("DESCRIBE SELECT * FROM test_all_types()").fetchall()]
    assert len(names) > 50
    suffix = {"markdown": "md", "table": "txt"}.get(format, format)
    assert ask(store, "SELECT * FROM test_all_types()", "--output", f"all.{suffix}") == 0
    assert capsys.readouterr().err == ""
    data = pq.read_table("all.parquet").column_names if format == "parquet" else Path(f"all.{suffix}").read_text()
    assert [n for n in names if n not in data] == []


@pytest.mark.parametrize("format", ["csv", "json", "markdown", "parquet"])
def test_types_without_a_form_of_their_own_are_text(store: Store, format: str) -> None:
    sql = """SELECT INTERVAL 90 MINUTE AS i, '0101'::BIT AS b, 'x'::ENUM('x') AS e, '12:00:00+02'::TIMETZ AS z,
        340282366920938463463374607431768211455::UHUGEINT AS u, union_value(k := 7) AS n, 12::BIGNUM AS g"""
    (row,) = answer(store, sql, format)
    expected = ("01:30:00", "0101", "x", "12:00:00+02", "340282366920938463463374607431768211455", "7", "12")
    assert tuple(row.values()) == expected


@pytest.mark.parametrize("format", ["csv", "json", "markdown"])
def test_dates_that_python_has_not(store: Store, format: str) -> None:
    sql = """SELECT DATE 'infinity' AS d, '-infinity'::TIMESTAMP AS t, '290000-01-01'::TIMESTAMPTZ AS z,
        TIMESTAMP '2026-11-22 10:00:00' AS usual"""
    (row,) = answer(store, sql, format)
    assert list(row.values()) == ["infinity", "-infinity", "290000-01-01 00:00:00+00", "2026-11-22 10:00:00"]


def test_nested_values_keep_their_shape_in_json(store: Store) -> None:
    sql = """SELECT [DATE '2026-01-01', NULL] AS l, {'a': [INTERVAL 1 DAY], 'B c': 1.5} AS s,
        [DATE 'infinity', DATE '2026-01-01']::DATE[2] AS f, map(['k'], [TIME '01:02:03']) AS m, sum(2)::HUGEINT AS h"""
    assert answer(store, sql, "json") == [
        {
            "l": ["2026-01-01", None],
            "s": {"a": ["1 day"], "B c": 1.5},
            "f": ["infinity", "2026-01-01"],
            "m": [["k", "01:02:03"]],
            "h": 2,
        }
    ]


@pytest.mark.parametrize("format", ["csv", "json", "markdown", "parquet"])
def test_repeated_names_are_numbered_and_no_column_is_lost(store: Store, format: str) -> None:
    (row,) = answer(store, "SELECT 1 AS a, 2 AS a, 3 AS b, DATE '2026-01-01' AS a", format)
    assert list(row) == ["a", "a_1", "b", "a_2"]
    assert [str(v) for v in row.values()] == ["1", "2", "3", "2026-01-01"]


def test_csv_tells_a_number_that_is_none_from_a_value_that_is_not_there(store: Store) -> None:
    sql = "SELECT 'nan'::FLOAT AS a, 'inf'::DOUBLE AS b, '-inf'::DOUBLE AS c, NULL::DOUBLE AS d, 0.1::DECIMAL(4,1) AS e"
    assert answer(store, sql, "csv") == [{"a": "nan", "b": "inf", "c": "-inf", "d": "", "e": "0.1"}]


LONG = "word " * 200 + "end"


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_no_cell_is_cut(store: Store, format: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = f"SELECT '{LONG}' AS text, range(100) AS numbers, repeat('x', 30000) AS wide"
    assert ask(store, sql, "--format", format) == 0
    out = capsys.readouterr().out
    assert LONG in out
    assert "98, 99]" in out
    assert "x" * 30000 in out


def test_a_terminal_shortens_long_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert "18, 19, …]" in tables.render(pa.table({"text": [LONG], "numbers": [list(range(100))]}))


def test_a_value_inside_another_is_written_as_it_would_be_alone() -> None:
    assert tables.cell({"a": [None, True, 1 / 3], "b": b"12"}) == "{a: [NULL, true, 0.333333], b: <2 bytes>}"


# ---------------------------------------------------------------- what is an answer, and where it goes


def test_pivot_and_returning_answer_and_a_change_does_not(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    sql = """CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2) RETURNING a * 10 AS r; UPDATE t SET a = a + 1;
        SELECT sum(a) AS s FROM t; PIVOT t ON a USING count(*)"""
    assert ask(store, sql, "--format", "csv") == 0
    assert capsys.readouterr().out == "r\n10\n20\n\ns\n5\n\n2,3\n1,1\n"


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)"])
def test_one_file_takes_one_result_and_nothing_is_written_before(
    store: Store, sql: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(store, sql, "--output", "one.csv") == 2
    assert "one file holds one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_pointer_counts_lines_in_the_statement_as_it_was_written(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(store, "SELECT now() AS a, 1 AS a,\n title::INTEGER\nFROM tracks") == 1
    assert "LINE 2:  title::INTEGER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "format", "magic"),
    [
        ("x.parquet", None, b"PAR1"),
        ("x.CSV", None, b"a\n1"),
        ("x.json", "json", b"["),
        ("x.md", None, b"| a |"),
        ("x.txt", "csv", b"a\n1"),
        ("x.csv", "markdown", None),
        ("x.parquet", "table", None),
        ("x.csv", "parquet", None),
        ("x.xlsx", None, None),
        ("x.dat", "csv", b"a\n1"),
        ("plain", None, b"\n a\n"),
        ("plain", "parquet", b"PAR1"),
    ],
)
def test_the_suffix_and_the_format_agree(
    store: Store, output: str, format: str | None, magic: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    code = ask(store, "SELECT 1 AS a", "--output", output, *(["--format", format] if format else []))
    if magic is None:
        assert (code, Path(output).exists()) == (2, False)
        assert "--format" in capsys.readouterr().err
    else:
        assert code == 0
        assert Path(output).read_bytes().startswith(magic)


@pytest.mark.parametrize("question", [["SELECT 1 AS a"], ["--list"], ["run", "failures_by_kind"]])
@pytest.mark.parametrize(
    "place", ["{root}/store.json", "link/new.json", "alias.json", "{root}", "{root}/../store/x.json"]
)
def test_nothing_is_written_into_the_store(
    store: Store, question: list[str], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("link").symlink_to(store.root)
    Path("alias.json").symlink_to(f"{store.root}/store.json")
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in Path(store.root).rglob("*") if p.is_file()}
    assert ask(store, *question, "--format", "json", "--output", place.format(root=store.root)) == 2
    assert "inside the store" in capsys.readouterr().err
    assert before == {p: hashlib.sha256(p.read_bytes()).digest() for p in Path(store.root).rglob("*") if p.is_file()}
    assert ask(store, *question, "--output", f"{Path(store.root).name}-beside.json") == 0


def test_the_database_file_is_not_written_into_the_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(store.root, "store.json").read_bytes()
    assert ask(store, "catalog", f"{store.root}/store.json", "--force") == 2
    assert "inside the store" in capsys.readouterr().err
    assert Path(store.root, "store.json").read_bytes() == before


# ---------------------------------------------------------------- what a column means


def test_every_feature_column_names_its_unit_or_that_it_has_none(store: Store) -> None:
    with warehouse.connect(store) as connection:
        sql = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'features'"
        comments = dict(connection.execute(sql).fetchall())
        units = dict(connection.execute("SELECT column_name, unit FROM feature_columns").fetchall())
    assert units["spectral_contrast_kurtosis_03"] == units["mfcc_skew_01"] == units["chroma_cqt_mean_01"] == "no unit"
    assert [units[f"spectral_contrast_{s}_03"] for s in ("mean", "std", "median", "min", "max")] == ["dB"] * 5
    assert "" not in units.values()
    assert [c for c, unit in units.items() if not comments[c].endswith(f" [{unit}]")] == []


def test_an_imported_set_has_the_units_of_the_features_it_names(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=4, arrays_too=False)
    table = pa.table({"track_id": [1], "mfcc_kurtosis_01": [1.0], "spectral_centroid_std_01": [2.0], "mood": [3.0]})
    store.write_catalog("features_other", table)
    sql = "SELECT unit FROM feature_columns WHERE feature_set = 'other' ORDER BY column_name"
    assert warehouse.query(store, sql)["unit"].to_pylist() == [registry.NO_UNIT, "", "Hz"]


def test_macros_and_views_say_what_they_hold_and_not_how(store: Store) -> None:
    with warehouse.connect(store) as connection:
        sql = "SELECT function_name, comment FROM duckdb_functions() WHERE NOT internal AND schema_name = 'main'"
        macros = dict(connection.execute(f"{sql} AND function_type LIKE '%macro%'").fetchall())
        views = dict(connection.execute("SELECT view_name, comment FROM duckdb_views()").fetchall())
    assert set(macros) == {p.stem for p in (ROOT / "warehouse" / "macros").glob("*.sql")}
    assert all(comment.startswith(f"{name}(") for name, comment in macros.items())
    assert macros["similar_tracks"].endswith("(between the nearest excerpts of the two).")
    assert views["tracks"].count(".") == 1


# ---------------------------------------------------------------- the database file elsewhere


def test_a_database_file_with_absolute_paths_opens_from_any_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(store, "catalog", "there/a.duckdb", "--absolute") == 0
    assert "from anywhere" in capsys.readouterr().err
    assert ask(store, "catalog", "there/r.duckdb") == 0
    assert "--absolute" in capsys.readouterr().err
    (tmp_path / "other" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other" / "deeper")
    with duckdb.connect("../../there/a.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM tracks").fetchall() == [(12,)]
        assert len(connection.execute("FROM similar_tracks(2, 3)").fetchall()) == 3
    with duckdb.connect("../../there/r.duckdb", read_only=True) as connection, pytest.raises(duckdb.IOException):
        connection.execute("SELECT count(*) FROM tracks")


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, EXIT_INTERRUPTED, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_a_signal_ends_a_running_question(store: Store, number: int, code: int, word: str) -> None:
    sql = f"SELECT 'begun' AS note; {ENDLESS}"
    command = [sys.executable, "-u", "-m", "warehouse", "--store", store.url, "--format", "csv", sql]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["note\n", "begun\n"]
            time.sleep(1)  # into the second statement
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert err.strip().startswith(word)
    assert "Traceback" not in err


# its own terminal, so that the Ctrl-C typed there is a signal to it alone
AT_A_TERMINAL = """import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("warehouse", run_name="__main__", alter_sys=True)
"""


def test_ctrl_c_at_the_prompt_ends_the_question_and_not_the_prompt(store: Store, tmp_path: Path) -> None:
    here, there = pty.openpty()
    environment = {**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", AT_A_TERMINAL, "--store", store.url]
    process = subprocess.Popen(
        command, stdin=there, stdout=there, stderr=there, cwd=ROOT, env=environment, start_new_session=True
    )
    os.close(there)
    os.set_blocking(here, False)
    try:
        assert seen(here, b"sql>", 60)
        os.write(here, b".format csv\r")
        for _ in range(5):  # Ctrl-C before the question has begun only drops the line
            os.write(here, ENDLESS.encode() + b";\r")
            time.sleep(2)
            os.write(here, b"\x03")
            if seen(here, b"interrupted", 10):
                break
        else:
            pytest.fail("the question was not interrupted")
        os.write(here, b"SELECT 6 * 7 AS answer;\r")
        assert seen(here, b"42\r\n", 60)
        os.write(here, b".quit\r")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(here)


def seen(terminal: int, text: bytes, seconds: float) -> bool:
    """Whether `text` comes out of the terminal before so many seconds are over."""
    out, end = b"", time.monotonic() + seconds
    while text not in out and time.monotonic() < end:
        with contextlib.suppress(BlockingIOError, OSError):
            out += os.read(terminal, 65536)
        time.sleep(0.05)
    return text in out
