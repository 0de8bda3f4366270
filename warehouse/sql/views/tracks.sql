-- The catalog joined with what was measured: one row per track, measured or not.
-- The sums over excerpts are taken once per connection: no question about tracks should pay for them again.
CREATE TABLE stored.heard AS
FROM (
    SELECT track_id, count(*) AS excerpts, sum(duration_s) AS duration_s, any_value(native_rate) AS native_rate,
        any_value(channels) AS channels, max(peak) AS peak, sqrt(avg(rms * rms)) AS rms
    FROM stored.excerpts() GROUP BY track_id
)
FULL JOIN (SELECT track_id, any_value(kind) AS failure FROM stored.failures() GROUP BY track_id) USING (track_id);
-- GROUP BY tells DuckDB that a track has one row here, so a question that needs none of it skips the join.
CREATE VIEW tracks AS
SELECT t.*, coalesce(e.excerpts, 0) AS excerpts, e.duration_s, e.native_rate, e.channels, e.peak, e.rms, e.failure
FROM stored.tracks() AS t
LEFT JOIN (
    SELECT track_id, any_value(excerpts) AS excerpts, any_value(duration_s) AS duration_s,
        any_value(native_rate) AS native_rate, any_value(channels) AS channels, any_value(peak) AS peak,
        any_value(rms) AS rms, any_value(failure) AS failure
    FROM stored.heard GROUP BY track_id
) AS e USING (track_id);
COMMENT ON COLUMN tracks.excerpts IS 'excerpts measured; 0 where the audio was not measured';
COMMENT ON COLUMN tracks.duration_s IS 'measured length of all excerpts together; NULL where not measured [s]';
COMMENT ON COLUMN tracks.native_rate IS 'sample rate of the file [Hz]';
COMMENT ON COLUMN tracks.channels IS 'channels of the file';
COMMENT ON COLUMN tracks.peak IS 'largest absolute sample of the mono excerpts [full scale]';
COMMENT ON COLUMN tracks.rms IS 'root-mean-square level over the excerpts [full scale]';
COMMENT ON COLUMN tracks.failure IS 'kind of failure when the audio was measured last; NULL where none';
