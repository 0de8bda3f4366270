-- Audio files that could not be measured, and why: one row per file that failed in its newest build.
CREATE VIEW failures AS SELECT * REPLACE (failed_at AT TIME ZONE 'UTC' AS failed_at) FROM stored.failures();
