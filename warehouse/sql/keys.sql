-- The keys of a feature set with what a study needs to choose and label them, ordered.
-- Parameters: $scheme and $split (NULL: any), $subsets (NULL: all), $labelled (only tracks with a genre).
-- {located} is the relation with the set's (track_id, excerpt, batch).
SELECT k.track_id, k.excerpt, k.batch, t.genre, coalesce(t.artist_group, k.track_id) AS artist_group, s.split
FROM {located} AS k
LEFT JOIN tracks AS t USING (track_id)
LEFT JOIN (SELECT track_id, split FROM splits WHERE scheme = $scheme) AS s USING (track_id)
WHERE ($scheme IS NULL OR s.split IS NOT NULL)
  AND ($split IS NULL OR s.split = $split)
  AND ($subsets IS NULL OR list_contains($subsets, t.subset))
  AND (NOT $labelled OR t.genre IS NOT NULL)
ORDER BY k.track_id, k.excerpt
