"""The store: Parquet files on a disk or an object store, committed batch by batch."""
