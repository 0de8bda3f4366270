-- The catalog joined with what was measured: one row per track, measured or not.
-- column artist_group: the artist, by the rule that splits are drawn by: smallest track_id of all tracks of that artist
-- column excerpts: excerpts measured; 0 where the audio was not measured
-- column duration_s: measured length of all excerpts together; NULL where not measured [s]
-- column native_rate: sample rate of the file [Hz]
-- column channels: channels of the file
-- column peak: largest absolute sample of the mono excerpts [full scale]
-- column rms: root-mean-square level over the excerpts [full scale]
-- column failure: kind of failure when the audio was measured last; NULL where none
WITH measured AS (
    SELECT track_id, count(*) AS excerpts, sum(duration_s) AS duration_s, any_value(native_rate) AS native_rate,
        any_value(channels) AS channels, max(peak) AS peak, sqrt(avg(rms * rms)) AS rms
    FROM excerpts GROUP BY track_id
),
failed AS (SELECT track_id, any_value(kind) AS failure FROM failures GROUP BY track_id)
SELECT t.*, coalesce(g.artist_group, t.track_id) AS artist_group, coalesce(m.excerpts, 0) AS excerpts, m.duration_s,
    m.native_rate, m.channels, m.peak, m.rms, f.failure
FROM {source} AS t
LEFT JOIN stored.artist_groups AS g USING (track_id)
LEFT JOIN measured AS m USING (track_id)
LEFT JOIN failed AS f USING (track_id)
ORDER BY t.track_id
