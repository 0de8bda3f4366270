"""What cannot happen from SQL: writing, reading elsewhere, unlocking, crashing, noise when Python ends."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import warehouse
from featurestore import cli
from featurestore.errors import FeatureStoreError
from featurestore.store import Store
from tests.factories import make_store
from warehouse.__main__ import main
from warehouse.connection import connect_for, fetch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(str(tmp_path_factory.mktemp("command") / "store"), tracks=24)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def ask(store: Store, *arguments: str) -> int:
    return cli.run(main, [*arguments, "--store", store.url])


def fingerprint(folder: str | Path) -> dict[str, str]:
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# ---------------------------------------------------------------- nothing can be written


def hostile(store: Store, folder: Path) -> list[str]:
    inside = f"{store.root}/excerpts/000001-00000.parquet"
    url = "store://excerpts/000001-00000.parquet"
    targets = [url, "store://new.parquet", inside, str(folder / "stolen.csv"), "relative.csv", "/dev/stdout"]
    copies = [
        f"COPY (SELECT 1 AS a) TO '{target}' ({options})"
        for target in targets
        for options in ("FORMAT parquet", "FORMAT csv, USE_TMP_FILE false", "FORMAT csv, PER_THREAD_OUTPUT true")
    ]
    secret = str(folder / "secret.txt")
    return [
        *copies,
        f"EXPLAIN ANALYZE COPY (SELECT 1) TO '{url}' (FORMAT csv, USE_TMP_FILE false)",
        f"PREPARE p AS COPY (SELECT 1) TO '{url}' (FORMAT csv, USE_TMP_FILE false); EXECUTE p",
        "COPY tracks TO 'partitioned' (PARTITION_BY genre, FORMAT parquet)",
        "EXPORT DATABASE 'exported'",
        "EXPORT DATABASE 'store://exported'",
        "IMPORT DATABASE 'exported'",
        "ATTACH 'new.db'; CREATE TABLE new.t AS SELECT 1",
        f"ATTACH '{inside}' AS x; CREATE TABLE x.t AS SELECT 1",
        "INSTALL httpfs",
        "INSTALL httpfs FROM 'store://excerpts'",
        "LOAD httpfs",
        f"LOAD '{inside}'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET allowed_directories = ['/']",
        "SET temp_directory = '/tmp'",
        "RESET ALL",
        "PRAGMA enable_profiling",
        "PRAGMA profile_output = 'profile.json'",
        "PRAGMA log_query_path = 'log.txt'",
        "CALL enable_logging(storage = 'file', storage_path = 'logs')",
        f"SELECT * FROM read_text('{secret}')",
        f"SELECT * FROM read_blob('{secret}')",
        f"SELECT * FROM read_csv('{secret}')",
        f"FROM '{secret}'",
        f"SELECT * FROM read_parquet('{inside}')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_text('/proc/self/environ')",
        f"COPY tracks FROM '{secret}'",
        f"CREATE TABLE t (a VARCHAR); COPY t FROM '{secret}'",
        f"CREATE MACRO leak() AS TABLE SELECT * FROM read_text('{secret}')",
        "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
        "INSERT INTO tracks (track_id) VALUES (1)",
        "UPDATE tracks SET genre = 'x'",
        "DELETE FROM features",
        "DROP TABLE features",
        "ALTER TABLE tracks ADD COLUMN x INTEGER",
        "TRUNCATE tracks",
        "UPDATE EXTENSIONS",
        "SELECT * FROM sql_statement",
        "SELECT * FROM sys",
        "SELECT * FROM connection",
    ]


def runs(store: Store, sql: str) -> bool:
    """Whether every statement of `sql` is run on a fresh connection."""
    with connect_for(store, sql) as connection:
        try:
            for statement in sql.split("; "):
                connection.execute(statement).fetchall()
        except (duckdb.Error, RuntimeError):
            return False
    return True


def test_no_statement_writes_reads_elsewhere_or_unlocks(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    before, here = fingerprint(store.root), fingerprint(tmp_path)
    sql_statement = pa.table({"a": [1]})  # noqa: F841  (must not be found from SQL)
    assert [sql for sql in hostile(store, tmp_path) if runs(store, sql)] == []
    # DuckDB lets these run: a store file as a database in memory, a file that is not there as no rows
    runs(store, "ATTACH 'store://excerpts/000001-00000.parquet' AS x; CREATE TABLE x.t AS SELECT 1; CHECKPOINT x")
    for path in ("store://store.json", "store://../../secret.txt", "store://*"):
        assert len(warehouse.query(store, f"SELECT * FROM read_text('{path}')")) == 0
    assert fingerprint(store.root) == before
    assert fingerprint(tmp_path) == here


def test_a_refused_statement_says_how_to_keep_a_result(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("out.csv", "store://excerpts/x.parquet"):
        assert ask(store, f"COPY (SELECT 1) TO '{target}'") == 1
        err = capsys.readouterr().err
        assert "--output FILE" in err
        assert "Traceback" not in err


def test_a_connection_that_may_write_still_cannot_touch_the_store(store: Store, tmp_path: Path) -> None:
    before = fingerprint(store.root)
    with warehouse.connect(store, read_only=False) as connection:
        connection.execute("COPY (SELECT genre FROM tracks) TO 'genres.csv'")
        with pytest.raises(duckdb.Error, match="read-only here"):
            connection.execute("COPY (SELECT 1) TO 'store://mel/000001-00000.parquet' (FORMAT csv, USE_TMP_FILE false)")
    assert len((tmp_path / "genres.csv").read_text().splitlines()) == 25
    assert fingerprint(store.root) == before


FUZZ_TABLES = {
    "tracks": ["track_id", "genre", "title", "rms", "genre_ids"],
    "features": ["track_id", "excerpt", "mfcc_mean_01", "zcr_std_01"],
    "mel": ["track_id", "n_mels", "mel", "mel_db(mel)", "len(mel_db(mel))"],
    "splits": ["track_id", "scheme", "split"],
    "track_genres": ["track_id", "genre", "genre_path(genre_id)"],
    "similar_tracks(3, 2)": ["track_id", "distance"],
}


def random_query(rng: random.Random) -> str:
    """A query that is often, but not always, right."""
    table = rng.choice(list(FUZZ_TABLES))
    columns = [*FUZZ_TABLES[table], *FUZZ_TABLES[table], "*", "nothing", "mel"]
    words = [rng.choice(columns) for _ in range(rng.randint(1, 3))]
    words = [f"{rng.choice(['count', 'max', 'list', 'upper', 'sum'])}({w})" if rng.random() < 0.2 else w for w in words]
    sql = f"SELECT {', '.join(words)} FROM {table}"
    if rng.random() < 0.2:
        sql += f" JOIN {rng.choice(['tracks', 'features', 'nowhere', '('])} USING (track_id)"
    if rng.random() < 0.3:
        sql += (
            f" WHERE {rng.choice(columns)} {rng.choice(['=', '<', 'LIKE', 'IN', 'IS NOT'])} {rng.choice(['1', 'NULL'])}"
        )
    if rng.random() < 0.3:
        sql += " GROUP BY ALL"
    return sql + rng.choice(["", "", "", "", "", " ORDER BY 1", " LIMIT 3", " LIMIT -1", ";", "; SELECT", "'"])


def outcome(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    try:
        return f"{len(fetch(connection, sql))} rows"
    except FeatureStoreError as error:
        return str(error)


def test_fifty_random_queries_answer_or_say_why(store: Store) -> None:
    before = fingerprint(store.root)
    rng = random.Random(20261122)
    with warehouse.connect(store) as connection:
        outcomes = [outcome(connection, random_query(rng)) for _ in range(50)]
    answered = [o for o in outcomes if o.endswith(" rows")]
    assert 10 <= len(answered) <= 40, "the generator makes both good and bad queries"
    assert all("Error" in o and "Traceback" not in o for o in outcomes if o not in answered)
    assert fingerprint(store.root) == before


# ---------------------------------------------------------------- quiet processes


@pytest.mark.parametrize(
    "end",
    [
        "",
        "c.close()",
        # a function of the user's that can reach the connection: the circle that DuckDB cannot collect
        "def mine(x: int) -> int: return x if c else 0\nc.create_function('mine', mine, ['INTEGER'], 'INTEGER')",
        "keep = [c, c.cursor()]; keep.append(keep)",
        "import builtins; builtins.c = c",
        "r = c.sql('FROM mel')",
    ],
)
def test_python_ends_without_a_word_from_duckdb(store: Store, end: str) -> None:
    code = (
        f"import warehouse; c = warehouse.connect({store.url!r})\n"
        "n = c.execute('SELECT sum(len(mel_db(mel))) FROM mel JOIN features USING (track_id)').fetchall()\n"
        f"{end}\nprint(n[0][0] > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_the_command_is_quiet_and_its_help_loads_nothing_heavy(store: Store) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "warehouse", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"duckdb", "tensorflow", "librosa", "pandas", "sklearn", "prompt_toolkit"}
    command = [sys.executable, "-m", "warehouse", "--store", store.url, "SELECT sum(len(mel_db(mel))) AS n FROM mel"]
    done = subprocess.run([*command, "--format", "csv"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
