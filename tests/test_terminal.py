"""What a person at a terminal gets: tables that fit, text that is safe, progress, messages and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pyarrow as pa
import pytest
from rich.cells import cell_len

from featurestore import __main__ as command
from featurestore.errors import FeatureStoreError
from featurestore.terminal import cli, progress, tables, words
from tests.builds import ROOT

HOSTILE = "Blue\x1b]0;owned\x07 Mon\u202eday\r\n\x9b2J\u2028 夜 é \U0001f468\u200d\U0001f469"
SHOWN = r"Blue\x1b]0;owned\x07 Mon\u202eday\r\n\x9b2J\u2028 夜 é " + "\U0001f468\u200d\U0001f469"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make standard output a terminal of so many columns."""

    def _screen(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return _screen


# ---------------------------------------------------------------- text from data


def test_characters_that_a_terminal_obeys_are_spelt_out_and_others_stay() -> None:
    assert words.printable(HOSTILE) == SHOWN
    assert words.printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    assert words.printable("caf\udce9") == r"caf\udce9"


@pytest.mark.parametrize("format", ["table", "markdown"])
@pytest.mark.parametrize("columns", [None, 200])
def test_people_get_safe_cells_and_names(screen: Callable[[int], None], format: str, columns: int | None) -> None:
    if columns:
        screen(columns)
    nested = [[{"name": HOSTILE}]]
    out = tables.render(pa.table({"[/nope]": [HOSTILE], "\x1b[2J": ["[red]x[/red]"], "n": nested}), format)
    assert all(text in out for text in (SHOWN, "[/nope]", r"\x1b[2J", "[red]x[/red]", f"[{{name: {SHOWN}}}]"))
    assert not set("\x1b\x07\u202e\r\x9b\u2028") & set(out)


def test_programs_get_the_text_as_it_is() -> None:
    table = pa.table({"[/nope]": [HOSTILE]})
    assert json.loads(tables.render(table, "json")) == [{"[/nope]": HOSTILE}]
    assert HOSTILE in tables.render(table, "csv")


def test_messages_are_safe_and_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(argv: object) -> int:
        raise FeatureStoreError("a\x1b[2Jb.mp3: is broken", "Mend it.")

    assert cli.run(failing) == 1
    words.note("caf\x1b[2J")
    assert capsys.readouterr().err == "error: a\\x1b[2Jb.mp3: is broken\n  Mend it.\ncaf\\x1b[2J\n"


# ---------------------------------------------------------------- tables that fit


def wide(n: int) -> pa.Table:
    return pa.table({"title": ["word " * 50, None], **{f"column_{i:02d}": [i * 1.5, -12345.6] for i in range(n)}})


@pytest.mark.parametrize("columns", [80, 120])
def test_a_row_is_one_line_of_the_terminal_and_columns_left_out_are_counted(
    screen: Callable[[int], None], columns: int
) -> None:
    screen(columns)
    *lines, note = tables.render(wide(31)).splitlines()
    assert max(map(cell_len, lines)) <= columns
    header, _, first, second = lines[1:5]
    names = header.split()
    assert (names[0], names[-1]) == ("title", "column_30")
    assert "…" in names
    assert note.startswith(f"{len(names) - 1} of 32 columns shown")
    assert first.split("…")[0].strip().startswith("word")
    assert second.split()[0] == "NULL"
    assert second.count("-12345.6") == len(names) - 2  # a number is whole or not there


def test_a_table_that_fits_is_whole_and_text_gives_way_first(screen: Callable[[int], None]) -> None:
    screen(80)
    out = tables.render(wide(3))
    assert "shown" not in out
    assert [line.split() for line in out.splitlines()[1:2]] == [["title", "column_00", "column_01", "column_02"]]
    assert max(map(cell_len, out.splitlines())) == 79  # the room is used
    assert "word w…  " in out


@pytest.mark.parametrize("columns", [1, 20])
def test_a_terminal_too_narrow_for_anything_still_gets_the_first_column(
    screen: Callable[[int], None], columns: int
) -> None:
    screen(columns)
    assert "1 of 41 columns shown" in tables.render(wide(40))


def test_wide_characters_count_twice(screen: Callable[[int], None]) -> None:
    screen(40)
    out = tables.render(pa.table({"a": ["夜" * 40], "b": ["x" * 40]}))
    assert max(map(cell_len, out.splitlines())) <= 40
    assert len(out.splitlines()) == 4


def test_a_pipe_gets_every_column_whole() -> None:
    out = tables.render(wide(200))
    assert "column_199" in out
    assert "word " * 49 in out
    assert "…" not in out


# ---------------------------------------------------------------- progress


def test_a_log_gets_lines_with_rate_remaining_time_and_failures(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("[/x] tracks", 8000, every_s=0) as bar:
        bar.advance(10)
        bar.advance(20, failed=2)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("[/x] tracks   10/8000")
    assert "30/8000" in second
    assert "it/s" in second
    assert second.rstrip().endswith("left 2 failed")


def test_a_log_gets_no_line_before_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("tracks", None) as bar:
        bar.advance()
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------- how a command ends


def test_a_slip_of_the_finger_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, meant in ((["buidl"], "build"), (["build", "--dataset", "fmaa"], "fma")):
        with pytest.raises(SystemExit) as error:
            command.main(arguments)
        assert error.value.code == 2
        assert capsys.readouterr().err.endswith(f"; did you mean {meant}?\n")
    with pytest.raises(SystemExit):
        command.main(["zzz\x1b"])
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", [MemoryError, pa.lib.ArrowMemoryError])
def test_memory_that_runs_out_is_a_message(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    def failing(argv: object) -> int:
        raise kind("realloc of size 9 failed")

    assert cli.run(failing) == 1
    assert capsys.readouterr().err.startswith("error: out of memory")


def test_a_bug_keeps_its_traceback() -> None:
    def failing(argv: object) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(failing)


SLEEPER = """import sys, time
from featurestore.terminal import cli

def main(argv):
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

sys.exit(cli.run(main))
"""


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_a_signal_ends_a_command_with_a_message_and_its_code(number: signal.Signals, code: int, word: str) -> None:
    # the suite itself may run under nohup, whose children ignore a hangup
    heard = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n{SLEEPER}"
    with subprocess.Popen(
        [sys.executable, "-c", heard], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "cleaned up\n")
    assert err.strip() == f"{word}: what was committed is kept; run the same command again to go on"


def test_who_ignores_a_hangup_goes_on_ignoring_it() -> None:
    """As nohup starts a command."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.run(lambda argv: os.kill(os.getpid(), signal.SIGHUP) or time.sleep(0.01) or 7) == 7
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
