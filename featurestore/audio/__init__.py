"""Audio files to mono excerpts: which decoder, which stretch, which rate."""
