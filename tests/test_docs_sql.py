"""Every question in SQL that the README, the docs and the demo quote is asked here, of a small store."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import warehouse
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.factories import make_store
from tests.test_docs import DOCS, ROOT
from warehouse.__main__ import main

MACROS = [path.stem for path in (ROOT / "warehouse" / "sql" / "macros").glob("*.sql")]
LITERALS = r"(?:'[^']*'|\d+)(?:, (?:'[^']*'|\d+))*"
QUOTED = (
    re.compile(r'python -m warehouse "([^"]+ [^"]+)"'),  # the command
    re.compile(r'^ask "([^"]+)"', re.MULTILINE),  # the demo's own shorthand for it
    re.compile(r'(?:query|execute|sql)\((?:"[^"]*", )?"([^"]+)"\)'),  # Python
    re.compile(r"```sql\n(.*?)```", re.DOTALL),
    re.compile(r"`((?:SELECT|FROM|DESCRIBE|SHOW|SUMMARIZE) [^`]+)`"),
)
CALLS = re.compile(rf"`((?:{'|'.join(MACROS)})\((?:{LITERALS})?\))`")
NAMED = re.compile(r"python -m warehouse (run \w+(?: --param \S+)*)")


def quoted() -> list[tuple[str, tuple[str, ...]]]:
    """(file and question, words of the command line) of every question in SQL."""
    found = []
    for path in (*DOCS, ROOT / "scripts" / "demo.sh"):
        text = path.read_text()
        asked = [(sql.strip(),) for pattern in QUOTED for sql in pattern.findall(text)]
        asked += [(f"FROM {call}",) for call in CALLS.findall(text)]
        asked += [tuple(shlex.split(run)) for run in NAMED.findall(text)]
        found += [(f"{path.relative_to(ROOT)}: {' '.join(words)[:60]}", words) for words in dict.fromkeys(asked)]
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    genres = ("Rock", "Hip-Hop", "Krautrock")
    store = make_store(str(tmp_path_factory.mktemp("quoted") / "store"), tracks=24, genres=genres)
    warehouse.connect(store).close()  # so that no question has to say that it makes the database
    return store


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in quoted()])
def test_what_the_docs_ask_is_answered(
    store: Store, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "answer.json"
    code = cli.run(main, [*words, "--store", store.url, "--output", str(answer)])
    assert (code, capsys.readouterr().err) == (0, "")
    # these tracks share no bytes
    assert json.loads(answer.read_text()) or words == ("FROM duplicates()",)


def test_the_questions_are_found() -> None:
    files = [name.partition(":")[0] for name, _ in quoted()]
    assert {"README.md", "docs/sql.md", "scripts/demo.sh"} <= set(files)
    assert len(files) >= 12
    text = "".join(path.read_text() for path in DOCS)
    fenced = "".join(block for block in re.findall(r"```.*?```", text, re.DOTALL))
    assert fenced.count("python -m warehouse ") == len(
        re.findall(r"python -m warehouse +(?:\"|run|catalog|-|#)", fenced)
    )
