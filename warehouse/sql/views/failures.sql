-- Audio files that could not be measured, and why: one row per file that failed in its newest build.
SELECT * REPLACE (failed_at AT TIME ZONE 'UTC' AS failed_at) FROM {source}
