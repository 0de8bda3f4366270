import featurestore  # noqa: F401 - first of all, for Ctrl-C while the rest is loading
