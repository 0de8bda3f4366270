-- Which artists and albums have tracks in more than one split? Any row here is leakage.
-- param scheme = official: split scheme: official, artist or random
WITH drawn AS (
    SELECT t.artist_group, t.artist_id, t.artist, t.album_id, t.album, s.split
    FROM tracks AS t JOIN splits AS s USING (track_id)
    WHERE s.scheme = (
        SELECT CASE WHEN known IS NULL OR list_contains(known, $scheme) THEN $scheme
            ELSE error(format('no split scheme {}; this store has {}', $scheme, array_to_string(known, ', '))) END
        FROM (SELECT list(DISTINCT scheme ORDER BY scheme) AS known FROM splits)
    )
)
-- tracks of unknown artists are groups of their own, and a track is in one split
SELECT 'artist' AS kind, min(artist_id) AS id, min(artist) AS name, count(*) AS tracks,
    list(DISTINCT split ORDER BY split) AS splits
FROM drawn
GROUP BY artist_group HAVING count(DISTINCT split) > 1
UNION ALL
SELECT 'album', album_id, any_value(album), count(*), list(DISTINCT split ORDER BY split)
FROM drawn WHERE album_id IS NOT NULL
GROUP BY album_id HAVING count(DISTINCT split) > 1
ORDER BY tracks DESC, kind, id
