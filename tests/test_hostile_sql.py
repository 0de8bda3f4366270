"""SQL and data that mean harm: nothing is read or written outside the store, and no data is run as code."""

# ruff: noqa: PT017 - a mutated file may be sound or refused, and both are checked
from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import warehouse
from featurestore.errors import FeatureStoreError
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests import factories
from tests.builds import ROOT
from tests.fuzzing import fuzz, mutated, snapshot
from warehouse.__main__ import main as ask


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = factories.make_store(str(tmp_path_factory.mktemp("store") / "s"), tracks=12, batch_tracks=6)
    warehouse.connect(store).close()  # makes the database of the snapshot
    return store


@pytest.mark.parametrize(
    "sql",
    [
        "COPY tracks TO '{outside}/x.csv'",
        "COPY tracks TO 'store://excerpts/000001-00000.parquet'",
        "EXPORT DATABASE '{outside}/db'",
        "ATTACH '{outside}/x.duckdb'",
        "INSTALL httpfs",
        "LOAD '{outside}/x.duckdb_extension'",
        "SET enable_external_access = true",
        "SELECT * FROM read_text('{outside}/secret')",
        "SELECT * FROM '{outside}/secret'",
        "SELECT * FROM glob('{outside}/*')",
        "SELECT * FROM read_csv('{outside}/secret')",
        "CREATE TABLE t AS FROM tracks; COPY t TO '{outside}/y'",
        "SELECT getenv('HOME')",
        "SELECT mel_db('no mel'::BLOB)",
        "PRAGMA database_list; CHECKPOINT; SELECT * FROM nothing",
        "",
        ";;;",
        "SELECT '",
        "\x00",
    ],
)
def test_sql_neither_reads_nor_writes_elsewhere(
    sql: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("do not read this")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path, Path(store.root))
    code = cli.run(ask, [sql.format(outside=tmp_path), "--store", store.url])
    out, err = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    assert "do not read" not in out + err
    assert os.environ["HOME"] not in out
    assert snapshot(tmp_path, Path(store.root)) == before


@fuzz(25)
@given(st.text(max_size=30) | mutated((b"SELECT genre, count(*) FROM tracks JOIN mel USING (track_id) GROUP BY 1",)))
def test_any_text_is_sql_or_an_error(store: Store, sql: str | bytes) -> None:
    text = sql.decode("utf-8", "replace") if isinstance(sql, bytes) else sql
    try:
        assert warehouse.query(store, text) is not None
    except FeatureStoreError as error:
        assert str(error)


# ---------------------------------------------------------------- code from data


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what) of everything in a module that could run code found in data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            for name in named:
                if name.partition(".")[0] in {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}:
                    yield node.lineno, name
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {"eval", "exec", "os.system", "joblib.load", "pd.read_pickle", "pandas.read_pickle"}:
                yield node.lineno, name
            for word in node.keywords:
                if word.arg in {"allow_pickle", "shell"} and getattr(word.value, "value", True) is not False:
                    yield node.lineno, f"{name}({word.arg})"


def test_nothing_runs_code_from_data() -> None:
    assert list(calls(ast.parse("import pickle; eval('1'); np.load(f, allow_pickle=True)"))) != []
    packages = ("featurestore", "warehouse", "analysis", "training")
    modules = [p for package in packages for p in (ROOT / package).rglob("*.py")]
    assert len(modules) > 50
    assert {str(p): found for p in modules if (found := list(calls(ast.parse(p.read_text()))))} == {}
