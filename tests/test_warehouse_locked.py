"""What cannot happen from SQL: writing, reading elsewhere, unlocking, crashing, noise when Python ends."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import warehouse
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests import fuzzing
from tests.factories import make_store
from warehouse.__main__ import main
from warehouse.database.connection import connect
from warehouse.database.views import VIEWS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = make_store(str(tmp_path_factory.mktemp("command") / "store"), tracks=24)
    warehouse.connect(store).close()  # makes the database of the snapshot
    return store


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
    with connect(store) as connection:
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


ODD = """NULL, 0, -1, 9223372036854775807, 1e308, 'nan'::FLOAT, '-inf'::DOUBLE, '', '%', 'Blues', e'\\n', '12'::BIGNUM,
    'aa'::BLOB, '01'::BIT, true, DATE 'infinity', TIMESTAMP '290000-01-01', now(), INTERVAL '1 month', TIME '00:00:01',
    uuid(), [1;NULL], ['a'], {'a': DATE '-infinity'; 'b': NULL}, map([1]; ['x']), [[1.5]]::DOUBLE[1][1], 1::HUGEINT,
    'x'::ENUM('x'; 'y'), union_value(k := 1), 0.1::DECIMAL(38;10), '2026-01-01 00:00:00+01'::TIMESTAMPTZ"""
VALUES = [text.strip().replace(";", ",") for text in ODD.split(",")]
FUNCTIONS = ("count", "max", "list", "first", "upper", "sum", "avg", "median", "typeof", "len", "hash", "mel_db",
    "genre_path", "year", "to_json", "unnest")  # fmt: skip
JOINS = """, x JOIN|x JOIN y USING (track_id)|x LEFT JOIN y USING (track_id)|x FULL JOIN y USING (track_id)
|x SEMI JOIN y USING (track_id)|x ANTI JOIN y USING (track_id)|x NATURAL JOIN y|x CROSS JOIN y|x POSITIONAL JOIN y
|x ASOF JOIN y ON a.track_id >= b.track_id|x JOIN y ON a.track_id = b.track_id + 1|x, LATERAL (SELECT a.track_id + 1)
|x JOIN nowhere USING (track_id)|x JOIN (""".replace("\n", "").split("|")[1:]
MACRO_CALLS = ("similar_tracks(@, @)", "feature_profile(@)", "feature_drift(@)", "duplicates()", "similar_tracks(3, 2)",
    "feature_profile('tempo')", "feature_drift('artist')", "feature_profile('rms')")  # fmt: skip


class Questions:
    """Random questions that are often, but not always, right. Small inputs keep every one of them quick."""

    def __init__(self, store: Store, seed: int) -> None:
        self.rng = random.Random(seed)
        with warehouse.connect(store) as connection:
            names = [*VIEWS, "feature_columns"]
            self.columns = {n: [c[0] for c in connection.sql(f"DESCRIBE {n}").fetchall()] for n in names}

    def maybe(self, text: str, chance: float = 0.3) -> str:
        return text if self.rng.random() < chance else ""

    def value(self, view: str, depth: int = 2) -> str:
        """An expression: a column, an odd constant, a function, a window, a subquery."""
        pick = self.rng.random()
        if depth == 0 or pick < 0.5:
            return self.rng.choice(self.columns[view])
        inner = self.value(view, depth - 1)
        if pick < 0.65:
            return self.rng.choice(VALUES)
        if pick < 0.75:
            return f"{self.rng.choice(FUNCTIONS)}({inner})"
        if pick < 0.85:
            name = self.rng.choice(["row_number()", f"lag({inner})", f"sum({inner})", f"first_value({inner})"])
            return f"{name} OVER ({self.maybe(f'PARTITION BY {inner} ')}ORDER BY {self.value(view, 0)})"
        if pick < 0.9:
            return (
                f"({inner} {self.rng.choice(['+', '||', '=', '<', 'IS DISTINCT FROM', 'LIKE'])} {self.value(view, 0)})"
            )
        if pick < 0.95:
            return f"CASE WHEN {inner} IS NULL THEN {inner} ELSE {self.rng.choice(VALUES)} END"
        return f"({self.select(depth - 1)} LIMIT 1)"

    def source(self, view: str) -> str:
        if self.rng.random() < 0.15:
            call = self.rng.choice(MACRO_CALLS)
            return "".join(self.rng.choice([*VALUES, "3", "'mfcc'"]) if c == "@" else c for c in call) + " AS a"
        x, y = (f"(FROM {v} LIMIT 5)" for v in (view, self.rng.choice(list(self.columns))))
        if self.rng.random() < 0.6:
            return f"{x} AS a"
        return self.rng.choice(JOINS).replace("x", f"{x} AS a", 1).replace(" y", f" {y} AS b", 1)

    def select(self, depth: int = 2) -> str:
        view = self.rng.choice(list(self.columns))
        words = ", ".join(self.value(view, depth) for _ in range(self.rng.randint(1, 3)))
        words = self.rng.choice([words] * 6 + ["*", "DISTINCT *", "count(*)", "* EXCLUDE (track_id)"])
        sql = f"SELECT {words} FROM {self.source(view)}"
        if depth:
            test = [f"{self.value(view, 0)} IN ({self.select(0)})", f"EXISTS ({self.select(0)})", self.value(view, 1)]
            sql += self.maybe(f" WHERE {self.rng.choice(test)}", 0.2)
        return sql + self.maybe(" GROUP BY ALL", 0.1) + self.maybe(f" QUALIFY {self.value(view, 1)} IS NOT NULL", 0.05)

    def question(self) -> str:
        sql = self.select()
        if self.rng.random() < 0.15:
            sql += f" {self.rng.choice(['UNION', 'UNION ALL BY NAME', 'INTERSECT', 'EXCEPT ALL'])} {self.select()}"
        whole = ["WITH q AS ({}) FROM q", "SELECT count(*), list(q) FROM ({}) AS q", "SUMMARIZE {}", "DESCRIBE {}",
            "EXPLAIN {}", "CREATE TABLE t AS {}; FROM t", "COPY ({}) TO 'stolen.csv'", "{}; {}", "{}'"]  # fmt: skip
        sql = (self.rng.choice(whole) if self.rng.random() < 0.25 else "{}").replace("{}", sql)
        return sql + self.maybe(self.rng.choice([" ORDER BY 1", " LIMIT 3", " LIMIT -1", " ORDER BY ALL DESC", ";"]))


def test_random_questions_answer_or_say_why(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixty, always the same ones, through the command; with $FUZZ_EXAMPLES that many, and new ones in every run."""
    before = fingerprint(store.root)
    questions = Questions(store, random.randrange(1 << 32) if fuzzing.MORE else 20261122)
    codes = []
    for _ in range(fuzzing.MORE or 60):
        sql, format = questions.question(), questions.rng.choice(cli.FORMATS)
        codes.append(ask(store, sql, "--format", format, "--output", f"answer.{format}"))
        err = capsys.readouterr().err
        assert codes[-1] in (0, 1, 2), sql
        assert (err == "") == (codes[-1] == 0), (sql, err)
        assert not codes[-1] or err.startswith("error: "), (sql, err)
        assert not re.search("Traceback|INTERNAL|FATAL", err), (sql, err)
    assert 0.2 * len(codes) < codes.count(0) < 0.9 * len(codes), "the generator makes both good and bad questions"
    assert fingerprint(store.root) == before
    assert {p.name for p in tmp_path.iterdir()} <= {f"answer.{format}" for format in cli.FORMATS}


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


def test_a_notebook_without_ipywidgets_connects(store: Store) -> None:
    # python -c looks like a session; this module makes DuckDB take it for a notebook
    code = f"""if True:
        import sys, types
        sys.modules["IPython"] = module = types.ModuleType("IPython")
        module.get_ipython = lambda: types.SimpleNamespace(config={{"IPKernelApp": None}})
        sys.modules["ipywidgets"] = None
        import warehouse
        print(len(warehouse.query({store.url!r}, "FROM tracks")))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "24\n"), done.stderr


def test_a_limit_that_strikes_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    endless = "SELECT count(*) FROM range(1000000000) AS a, range(1000000) AS b WHERE (a.range * b.range) % 7 = 3"
    assert ask(store, endless, "--timeout", "0.5") == 1
    assert "stopped after 0.5 s" in (err := capsys.readouterr().err)
    assert "--timeout" in err
    assert ask(store, "SELECT list(range) FROM range(100000000)", "--memory-limit", "50MB") == 1
    assert "--memory-limit" in capsys.readouterr().err
    assert ask(store, "SELECT 1", "--memory-limit", "much") == 2
    assert "'much' is no amount of memory" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ask(store, "SELECT 1", "--timeout", "-1")


def test_the_command_is_quiet_and_its_help_loads_nothing_heavy(store: Store) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "warehouse", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"duckdb", "tensorflow", "librosa", "pandas", "sklearn", "prompt_toolkit"}
    command = [sys.executable, "-m", "warehouse", "--store", store.url, "SELECT sum(len(mel_db(mel))) AS n FROM mel"]
    done = subprocess.run([*command, "--format", "csv"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
