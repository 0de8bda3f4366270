"""`python -m featurestore COMMAND`: get data in, and look after the store."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from featurestore.commands import COMMANDS
from featurestore.terminal import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit code of the command.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = cli.Parser(prog="python -m featurestore", description=__doc__)
    sub = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = sub.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        # only the command that is asked for is imported, and its options read
        if name in arguments[:1]:
            module = importlib.import_module(f"featurestore.commands.{name.replace('-', '_')}")
            module.configure(command)
            command.set_defaults(run=module.main)
    args = parser.parse_args(arguments)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(cli.run(main))
