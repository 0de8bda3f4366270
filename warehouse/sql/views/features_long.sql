-- The measured features, one row per value. Reads every column: for many tracks ask `features` by column instead.
CREATE VIEW features_long AS
SELECT u.track_id, u.excerpt, c.feature, c.statistic, c.dimension, u.value, u.column_name
FROM (UNPIVOT (FROM stored.features()) ON COLUMNS(* EXCLUDE (track_id, excerpt)) INTO NAME column_name VALUE value) AS u
JOIN feature_columns AS c ON c.feature_set = 'librosa' AND c.column_name = u.column_name;
COMMENT ON COLUMN features_long.track_id IS 'identity of the track; FMA''s own id for FMA';
COMMENT ON COLUMN features_long.excerpt IS 'number of the excerpt within the track, from 0';
COMMENT ON COLUMN features_long.feature IS 'feature, such as mfcc';
COMMENT ON COLUMN features_long.statistic IS 'statistic over the frames of the excerpt, such as mean';
COMMENT ON COLUMN features_long.dimension IS 'dimension of the feature, from 1';
COMMENT ON COLUMN features_long.value IS 'the value; its unit is in feature_columns';
COMMENT ON COLUMN features_long.column_name IS 'name of the column in features';
