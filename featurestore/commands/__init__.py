"""One module per `python -m featurestore` command: `configure(parser)` adds its options, `main(args)` runs it.

A module here parses and prints; the work is a function of the library. Modules are imported only when named, so that
`--help` stays fast.
"""

from __future__ import annotations

COMMANDS = {
    "build": "catalog a collection and decode what is missing",
    "catalog": "labels and splits only, no audio",
    "import-features": "add anyone's features by track id",
    "fetch": "download FMA's metadata or clips",
    "status": "what the store holds",
    "splits": "how the tracks are split, and what crosses",
    "verify": "check every file and value",
    "compact": "merge small batches and drop superseded rows",
    "gc": "remove what no reader can see",
}
