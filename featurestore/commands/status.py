"""`python -m featurestore status`: what the store holds."""

from __future__ import annotations

import argparse

from featurestore.terminal import cli, tables


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore status`.
    """
    cli.add_store(parser)
    cli.add_format(parser)


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : argparse.Namespace
        What `configure` parsed.

    Returns
    -------
    int
        The exit code.
    """
    import dataclasses
    import json

    from featurestore.maintenance.status import status
    from featurestore.store.store import Store

    found = status(Store.open(args.store))
    if args.format == "json":
        print(json.dumps(dataclasses.asdict(found), indent=1, ensure_ascii=False))
    else:
        tables.emit(found.as_table(), args.format)
    return 0
