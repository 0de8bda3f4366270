-- The standardised features, one column per feature: (value - mean) / deviation over the store, 0 where a column is
-- constant. {scaled} is that expression for every feature column.
WITH m AS (SELECT avg(COLUMNS(* EXCLUDE (track_id, excerpt))) FROM stored.features()),
     s AS (SELECT stddev_pop(COLUMNS(* EXCLUDE (track_id, excerpt))) FROM stored.features())
SELECT f.track_id, f.excerpt, {scaled}
FROM stored.features() AS f, m, s
