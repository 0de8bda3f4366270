-- Which genre is this file, and in which split is it?
-- param path: the file's path or a part of it, such as 000140.mp3
SELECT t.track_id, t.path, t.title, t.artist, t.genre,
    (SELECT list(g.genre ORDER BY g.distance, g.genre) FROM track_genres AS g WHERE g.track_id = t.track_id) AS genres,
    (SELECT list(s.scheme || ': ' || s.split ORDER BY s.scheme) FROM splits AS s WHERE s.track_id = t.track_id) AS splits,
    t.failure
FROM tracks AS t
WHERE contains(t.path, (
    SELECT CASE WHEN files = 0 OR found > 0 THEN $path
        ELSE error(format('no track has {} in its path; paths look like {}', $path, example)) END
    FROM (SELECT count(path) AS files, count(*) FILTER (contains(path, $path)) AS found, min(path) AS example FROM tracks)
))
ORDER BY t.path
