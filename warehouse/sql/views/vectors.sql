-- The measured features standardised, one vector per excerpt: (value - mean) / deviation over the store.
-- A feature that is constant is 0. {scaled} is the expression for every feature, {n} their number.
-- column track_id: identity of the track; FMA's own id for FMA
-- column excerpt: number of the excerpt within the track, from 0
-- column vector: standardised features, in the order of the columns of features
WITH m AS (SELECT avg(COLUMNS(* EXCLUDE (track_id, excerpt))) FROM features),
     s AS (SELECT stddev_pop(COLUMNS(* EXCLUDE (track_id, excerpt))) FROM features)
-- a list is made twice as fast as an array
SELECT f.track_id, f.excerpt, list_value({scaled})::FLOAT[{n}] AS vector FROM features AS f, m, s
