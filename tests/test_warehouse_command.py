"""`python -m warehouse`: one-shot SQL, named queries, the prompt, the database file."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warehouse
from featurestore.errors import FeatureStoreError, UsageError
from featurestore.spec import Spec
from featurestore.store import arrays
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.factories import make_store
from warehouse.__main__ import main

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


# ---------------------------------------------------------------- one-shot SQL


@pytest.mark.parametrize("source", ["argument", "file", "standard input", "dash"])
def test_sql_from_everywhere(
    store: Store, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "-- how many?\nSELECT count(*) AS n FROM tracks"
    Path("q.sql").write_text(sql)
    monkeypatch.setattr(sys, "stdin", io.StringIO(sql))
    arguments = {"argument": [sql], "file": ["--file", "q.sql"], "standard input": [], "dash": ["--file", "-"]}[source]
    assert ask(store, *arguments, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 24}]


def test_formats_and_output(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT genre, count(*) AS n FROM tracks GROUP BY ALL ORDER BY 1"
    assert ask(store, sql, "--format", "csv") == 0
    assert capsys.readouterr().out == "genre,n\nAmbient,8\nBlues,8\nChoral,8\n"
    assert ask(store, sql, "--format", "markdown") == 0
    assert capsys.readouterr().out.splitlines()[2] == "| Ambient | 8 |"
    assert ask(store, sql, "--format", "parquet", "--output", "out.parquet") == 0
    assert pq.read_table("out.parquet").to_pydict() == {"genre": ["Ambient", "Blues", "Choral"], "n": [8, 8, 8]}
    assert ask(store, sql) == 0
    assert "Ambient   8" in capsys.readouterr().out


def test_several_statements_print_several_results(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT 1 AS a; CREATE TEMP TABLE t AS SELECT 2 AS b; INSERT INTO t VALUES (3); SELECT sum(b) AS s FROM t"
    assert ask(store, sql, "--format", "csv") == 0
    assert capsys.readouterr().out == "a\n1\n\ns\n5\n"
    assert ask(store, sql, "--output", "one.csv") == 2
    assert "several results" in capsys.readouterr().err


def test_a_long_table_is_cut_and_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(store, "SELECT * FROM range(1500)") == 0
    out, err = capsys.readouterr()
    assert "999" in out
    assert "1000" not in out
    assert "first 1,000 rows" in err
    assert ask(store, "SELECT * FROM range(1500)", "--format", "csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1501


def test_explain_is_readable(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(store, "EXPLAIN SELECT genre, count(*) FROM tracks GROUP BY genre") == 0
    out = capsys.readouterr().out
    assert "count_star()" in out
    assert len(out.splitlines()) > 5


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT gnre FROM tracks", ['"gnre" not found', '"genre"', "LINE 1: SELECT gnre FROM tracks", "^"]),
        ("SELEC 1", ["syntax error", "LINE 1: SELEC 1", "^"]),
        ("SELECT 1; FROM trakcs", ["trakcs does not exist", "LINE 1: FROM trakcs"]),
        ("SELECT 'x'::INTEGER", ["Could not convert", "^"]),
        ("SELECT error('boom')", ["boom"]),
    ],
)
def test_bad_sql_exits_1_with_the_pointer_of_duckdb(
    store: Store, sql: str, says: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(store, sql) == 1
    err = capsys.readouterr().err
    assert all(text in err for text in says)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["SELECT", "1"], 2, "Quote it"),
        (["SELECT 1", "--file", "x.sql"], 2, "Give it once"),
        (["--file", "nothing.sql"], 1, "cannot be read"),
        ([" "], 2, "no SQL"),
        (["SELECT 1", "--param", "k=1"], 2, "named query"),
        (["run"], 2, "--list"),
        (["run", "nothing"], 2, "tempo_by_genre"),
        (["run", "separating_features", "--param", "a=Blues"], 2, "missing parameter 'b'"),
        (["run", "tempo_by_genre", "--param", "x=1"], 2, "unknown parameter 'x'"),
        (["run", "loudest_and_quietest", "--param", "k"], 2, "not NAME=VALUE"),
        (["run", "loudest_and_quietest", "--param", "k=many"], 1, "Could not convert"),
        (["catalog"], 2, "FILE.duckdb"),
    ],
)
def test_wrong_command_lines(
    store: Store, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(store, *arguments) == code
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_no_store_exits_1_and_says_what_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(main, ["SELECT 1", "--store", "nowhere"]) == 1
    assert "python -m featurestore build" in capsys.readouterr().err


# ---------------------------------------------------------------- named queries


def test_every_named_query_is_listed_with_its_question(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(store, "--list", "--format", "json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {q["query"] for q in listed} == {p.stem for p in (ROOT / "warehouse" / "sql" / "queries").glob("*.sql")}
    assert all(q["question"].split("?")[0] and "?" in q["question"] for q in listed)


@pytest.mark.parametrize("name", [q.name for q in warehouse.named_queries()])
def test_every_named_query_runs_with_its_defaults(store: Store, name: str) -> None:
    given = {"a": "Ambient", "b": "Blues", "path": "000004.wav"}
    query = next(q for q in warehouse.named_queries() if q.name == name)
    needed = {p.name: given[p.name] for p in query.parameters if p.default is None}
    warehouse.run_named(store, name, needed)
    empty = Store.create("empty", store.spec)
    assert len(warehouse.run_named(empty, name, needed)) == 0


def test_which_genre_is_this_file(store: Store) -> None:
    (row,) = warehouse.run_named(store, "genre_of_file", {"path": "000004.wav"}).to_pylist()
    assert (row["track_id"], row["genre"], row["genres"]) == (4, "Ambient", ["Ambient"])
    assert "artist: training" in row["splits"]


def test_effect_sizes_equal_numpy(store: Store) -> None:
    table = warehouse.run_named(store, "separating_features", {"a": "Ambient", "b": "Blues", "k": "3"})
    m = warehouse.matrix(store)
    a, b = (m.X[m.y == g].astype(np.float64) for g in ("Ambient", "Blues"))
    effect = (b.mean(0) - a.mean(0)) / np.sqrt((a.var(0, ddof=1) + b.var(0, ddof=1)) / 2)
    order = np.argsort(-np.abs(effect))[:3]
    assert table["column_name"].to_pylist() == [m.columns[i] for i in order]
    assert table["effect_size"].to_pylist() == pytest.approx(effect[order].tolist(), rel=1e-5)


def test_artists_across_splits_finds_leakage_where_there_is_some(store: Store) -> None:
    assert len(warehouse.run_named(store, "artists_across_splits", {"scheme": "artist"})) == 0
    leaks = warehouse.run_named(store, "artists_across_splits", {"scheme": "random"}).to_pylist()
    splits = {r["track_id"]: r["split"] for r in store.read_catalog("splits").to_pylist() if r["scheme"] == "random"}
    by_artist: dict[int, set[str]] = {}
    for row in store.read_catalog("tracks").to_pylist():
        by_artist.setdefault(row["artist_id"], set()).add(splits[row["track_id"]])
    expected = {a for a, s in by_artist.items() if len(s) > 1}
    assert {r["id"] for r in leaks if r["kind"] == "artist"} == expected != set()


def test_a_swapped_label_is_suspicious(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=36, arrays_too=False, signal=6, artist_signal=0)
    tracks = store.read_catalog("tracks").to_pylist()
    true = tracks[0]["genre"]
    tracks[0]["genre"] = "Choral"
    store.write_catalog("tracks", pa.Table.from_pylist(tracks, schema=store.read_catalog("tracks").schema))
    first = warehouse.run_named(store, "suspicious_labels", {"k": "5"}).to_pylist()[0]
    assert (first["track_id"], first["agreement"], first["neighbours_say"]) == (tracks[0]["track_id"], 0.0, true)


def test_a_parameter_is_a_value_and_never_sql(store: Store) -> None:
    with pytest.raises(FeatureStoreError, match=r"no track has x'\) OR true -- in its path"):
        warehouse.run_named(store, "genre_of_file", {"path": "x') OR true --"})


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("separating_features", {"a": "Blues", "b": "Nope"}, "genre Nope; this store has Ambient, Blues, Choral"),
        ("separating_features", {"a": "blues", "b": "Blues"}, "genre blues; this store has Ambient, Blues, Choral"),
        ("artists_across_splits", {"scheme": "foo"}, "scheme foo; this store has artist, official, random"),
        ("genre_of_file", {"path": "nope.mp3"}, "no track has nope.mp3 in its path; paths look like 000001.wav"),
    ],
)
def test_a_parameter_that_matches_nothing_is_an_error_that_says_what_would(
    store: Store, name: str, parameters: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word for k, v in parameters.items() for word in ("--param", f"{k}={v}")]
    assert ask(store, "run", name, *given) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("feature_drift('foo')", "no split scheme foo; this store has artist, official, random"),
        ("feature_drift(NULL)", "no split scheme NULL; this store has"),
        ("similar_tracks(12345, 3)", "track 12345 is not measured in this store; the ids are in excerpts.track_id"),
        ("similar_tracks((SELECT track_id FROM tracks WHERE title = 'Nope'), 3)", "track NULL is not measured"),
        ("similar_tracks(1, NULL)", "k is NULL"),
        ("feature_profile('nope')", "no feature or column nope; the features are chroma_cens, chroma_cqt"),
        ("feature_profile('[')", "no feature or column [; the features are"),
        ("feature_profile('mfcc.*')", "no feature or column mfcc.*; the features are"),
        ("feature_profile('excerpt')", "no feature or column excerpt; the features are"),
        ("feature_profile(NULL)", "no feature or column NULL; the features are"),
    ],
)
@pytest.mark.parametrize("select", ["*", "count(*)"])
def test_an_argument_that_matches_nothing_is_an_error_that_says_what_would(
    store: Store, call: str, says: str, select: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(store, f"SELECT {select} FROM {call}") == 1
    assert says in capsys.readouterr().err


def test_macros_take_what_they_took(store: Store) -> None:
    sql = "SELECT column_name, genre, n, mean FROM feature_profile('{}')"
    upper, lower = (warehouse.query(store, sql.format(name)) for name in ("MFCC", "mfcc"))
    assert len(lower) == 140 * 3
    assert upper.equals(lower)
    assert len(warehouse.query(store, sql.format("Mfcc_Mean_01"))) == 3
    beside = "SELECT q.track_id, s.track_id AS near FROM tracks AS q, similar_tracks(q.track_id, 2) AS s ORDER BY ALL"
    one = warehouse.query(store, "SELECT track_id FROM similar_tracks(5, 2) ORDER BY 1")["track_id"].to_pylist()
    assert [r["near"] for r in warehouse.query(store, beside).to_pylist() if r["track_id"] == 5] == one


# ---------------------------------------------------------------- the prompt


def converse(store: Store, lines: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    from warehouse.shell import prompt

    with create_pipe_input() as keys:
        keys.send_text(lines.replace("\n", "\r"))
        assert prompt.run(store, input=keys, output=DummyOutput()) == 0
    return capsys.readouterr()


def test_the_prompt_answers_goes_on_after_errors_and_remembers(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "SELECT count(*) AS n\nFROM tracks;\nSELECT nothing FROM tracks;\n.format csv\nSELECT 6 * 7 AS x;\n.quit\n"
    out, err = converse(store, lines, capsys)
    assert "24" in out
    assert out.endswith("x\n42\n")
    assert '"nothing" not found' in err
    assert "SELECT count(*) AS n" in (tmp_path / "state" / "music-feature-store" / "sql_history").read_text()


def test_the_prompt_has_commands(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (
        ".tables\n.columns features\n.queries\n.run loudest_and_quietest k=1\n.help\n.format yaml\n.nothing\n.columns\n"
        '.run "\n.run failures_by_kind\n\x04'
    )
    out, err = converse(store, lines, capsys)
    assert "track_genres" in out
    assert "mel-frequency cepstral coefficient" in out
    assert "loudest" in out
    assert "Ctrl-D" in out
    for text in ("no format yaml", "no command .nothing", "wrong number of words", "No closing quotation"):
        assert text in err


def test_the_prompt_completes_what_the_store_has(store: Store) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from warehouse.shell import prompt

    with warehouse.connect(store) as connection:
        words = prompt.completer(connection)
    found = {c.text for c in words.get_completions(Document("SELECT spectral_centroid_m"), CompleteEvent())}
    assert {"spectral_centroid_mean_01", "spectral_centroid_median_01"} <= found
    assert "track_genres" in {c.text for c in words.get_completions(Document("FROM track_"), CompleteEvent())}


# ---------------------------------------------------------------- the database file


def test_plain_duckdb_opens_the_database_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Spec(n_mels=32, excerpt_seconds=0.5, wave_seconds=0.1)
    store = make_store(str(tmp_path / "a" / "store"), tracks=12, spec=spec)
    assert ask(store, "catalog", "a/music.duckdb") == 0
    assert "cd " in capsys.readouterr().err
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Store.open(str(tmp_path / "b" / "store"))
    code = """if True:
        import duckdb, json
        c = duckdb.connect("music.duckdb", read_only=True)
        print(json.dumps([c.execute(q).fetchall() for q in (
            "SELECT count(*) FROM tracks", "SELECT track_id FROM similar_tracks(2, 3)",
            "SELECT mel_db(mel) FROM mel WHERE track_id = 5", "SELECT genre_path(2)",
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'features' AND column_name = 'zcr_mean_01'")]))
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "b", check=False)
    assert done.stderr == ""
    tracks, similar, mel, path, comment = json.loads(done.stdout)
    assert tracks == [[12]]
    assert similar == [
        list(r.values()) for r in warehouse.query(moved, "SELECT track_id FROM similar_tracks(2, 3)").to_pylist()
    ]
    (batch,) = warehouse.iter_mels(moved, keys=pa.table({"track_id": [5], "excerpt": [0]}))
    assert np.array_equal(np.array(mel[0][0], np.float32).reshape(32, -1), batch.mels[0])
    assert path == [["Blues"]]
    assert "zero-crossing" in comment[0][0]


def test_half_precision_in_sql_is_exact_for_every_number(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tracks=2)
    warehouse.write_database(store, "x.duckdb")
    bits = np.arange(65536, dtype=np.uint16)
    bits = bits[np.isfinite(bits.view(np.float16))]
    with duckdb.connect("x.duckdb") as connection:
        ((got,),) = connection.execute("SELECT mel_db($1::BLOB)", [bits.tobytes()]).fetchall()
    expected = arrays.decode_mel(bits.tobytes(), 1).ravel()
    assert np.array_equal(np.array(got, np.float32), expected)


def test_a_database_file_is_replaced_only_when_asked(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "x.duckdb"
    target.write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        warehouse.write_database(store, target)
    assert target.read_text() == "precious"
    written = warehouse.write_database(store, target, force=True)
    assert written.views == len(warehouse.query(store, "SHOW TABLES"))
    assert sorted(os.listdir(tmp_path)) == ["x.duckdb"]
    (tmp_path / "plain").write_text("")
    with pytest.raises(FeatureStoreError, match="cannot be written"):
        warehouse.write_database(store, tmp_path / "plain" / "x.duckdb")
