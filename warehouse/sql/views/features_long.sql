-- The measured features, one row per value. Reads every column: for many tracks ask `features` by column instead.
-- column track_id: identity of the track; FMA's own id for FMA
-- column excerpt: number of the excerpt within the track, from 0
-- column feature: feature, such as mfcc
-- column statistic: statistic over the frames of the excerpt, such as mean
-- column dimension: dimension of the feature, from 1
-- column value: the value; its unit is in feature_columns
-- column column_name: name of the column in features
SELECT u.track_id, u.excerpt, c.feature, c.statistic, c.dimension, u.value, u.column_name
FROM (UNPIVOT (FROM features) ON COLUMNS(* EXCLUDE (track_id, excerpt)) INTO NAME column_name VALUE value) AS u
JOIN feature_columns AS c ON c.feature_set = 'librosa' AND c.column_name = u.column_name
