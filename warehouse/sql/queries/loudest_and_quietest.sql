-- Which excerpts are the loudest and the quietest, by RMS level in dB of full scale?
-- param k = 10: how many of each
WITH ranked AS (
    SELECT e.track_id, e.excerpt, 20 * log10(nullif(e.rms, 0)) AS rms_db, e.peak, e.clipped_share, e.silence_share,
        row_number() OVER (ORDER BY e.rms DESC, e.track_id, e.excerpt) AS loud,
        row_number() OVER (ORDER BY e.rms, e.track_id, e.excerpt) AS quiet
    FROM excerpts AS e
)
SELECT CASE WHEN loud <= $k::BIGINT THEN 'loudest' ELSE 'quietest' END AS which, r.track_id, r.excerpt, r.rms_db,
    r.peak, r.clipped_share, r.silence_share, t.genre, t.artist, t.title
FROM ranked AS r LEFT JOIN tracks AS t USING (track_id)
WHERE loud <= $k::BIGINT OR quiet <= $k::BIGINT
ORDER BY loud
