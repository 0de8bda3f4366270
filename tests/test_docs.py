"""Documentation that cannot drift: every command named in the README and docs exists, has help, and starts fast."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = (
    "warehouse",
    "analysis.compare",
    "analysis.pca_study",
    "analysis.learning_curve",
    "analysis.feature_sets",
    "analysis.explore",
    "analysis.predict",
    "training.export_tfrecords",
    "training.fit",
    "training.evaluate",
    "training.predict",
)
HEAVY = ("tensorflow", "keras", "librosa", "numba", "sklearn", "matplotlib", "pandas", "scipy")
COMMAND_LINE = re.compile(r"python -m ([a-z_]+(?:\.[a-z_]+)*)((?:[ \t]+[^\s`|&;)]+)*)")


def _help(*words: str) -> str:
    """Help of a command, from a process that reports which heavy libraries it imported on the way."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[words[0], *words[1:], '--help']!r}\n"
        "try:\n"
        f"    runpy.run_module({words[0]!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop:\n"
        "    assert stop.code in (0, None), stop.code\n"
        f"print('HEAVY', *[m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "command", [("featurestore",), *(("featurestore", c) for c in COMMANDS), *((m,) for m in MODULES)]
)
def test_help_is_light_and_says_something(command: tuple[str, ...]) -> None:
    text, _, heavy = _help(*command).rpartition("HEAVY")
    assert heavy.split() == [], f"--help of {' '.join(command)} imports {heavy.strip()}"
    assert text.startswith("usage:")
    assert len(text) > 200


def _mentions() -> list[tuple[str, str, str]]:
    found = []
    for path in DOCS:
        for module, rest in COMMAND_LINE.findall(path.read_text().replace("\\\n", " ")):
            found.append((path.relative_to(ROOT).as_posix(), module, rest.strip()))
    return found


def test_every_command_in_the_docs_exists() -> None:
    known = {
        "featurestore",
        "pytest",
        "pip",
        "venv",
        *MODULES,
        *(f"benchmarks.{p.stem}" for p in (ROOT / "benchmarks").glob("*.py")),
        *(f"benchmarks.{p.parent.name}" for p in (ROOT / "benchmarks").glob("*/__main__.py")),
    }
    wrong = [f"{path}: python -m {module}" for path, module, _ in _mentions() if module not in known]
    assert not wrong, wrong
    subcommands = [(p, r.split()[0]) for p, m, r in _mentions() if m == "featurestore" and r and r[0].isalpha()]
    assert not [f"{p}: featurestore {c}" for p, c in subcommands if c not in COMMANDS]


def test_every_option_in_the_docs_exists() -> None:
    """`--option` words that follow a command in the docs are options that its help lists."""
    helps: dict[tuple[str, ...], str] = {}
    wrong = []
    for path, module, rest in _mentions():
        words = [w for w in re.split(r"\s+", rest) if w]
        if module in ("pytest", "pip", "venv") or module.startswith("benchmarks."):
            continue
        command = (module, words[0]) if module == "featurestore" and words and words[0] in COMMANDS else (module,)
        options = {w.split("=")[0].rstrip(",.:") for w in words if w.startswith("--")}
        if options:
            text = helps.setdefault(command, _help(*command))
            wrong += [f"{path}: {' '.join(command)} {o}" for o in options if not re.search(rf"{re.escape(o)}\b", text)]
    assert not wrong, wrong


def test_every_command_is_documented() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [c for c in (*(f"featurestore {c}" for c in COMMANDS), *MODULES) if f"python -m {c}" not in text]
    assert not missing, missing


def test_links_in_the_docs_lead_somewhere() -> None:
    broken = []
    for path in DOCS:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert not broken, broken


def test_the_environment_variable_names_the_default_store(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "featurestore", "status"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        env={**os.environ, "FEATURESTORE": str(tmp_path / "elsewhere")},
    )
    assert done.returncode == 1
    assert str(tmp_path / "elsewhere") in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_script_types_only_commands_that_exist() -> None:
    lines = [
        shlex.split(line)[1:] for line in (ROOT / "scripts/demo.sh").read_text().splitlines() if line.startswith("go ")
    ]
    assert [line[2] for line in lines] == [
        "featurestore",
        "featurestore",
        "analysis.compare",
        "analysis.pca_study",
        "training.export_tfrecords",
        "training.fit",
    ]
