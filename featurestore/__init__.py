"""Audio is decoded once, into Parquet tables."""

import sys

if sys.argv[:1] == ["-m"]:  # python is looking for a module of this project to run, and nothing else is imported yet
    from featurestore import interrupt

    interrupt.expect()
