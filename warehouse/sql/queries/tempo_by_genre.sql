-- How fast is each genre, in beats per minute? (Needs the feature group `rhythm`.)
SELECT genre, n, mean, deviation, q25, q50 AS median, q75 FROM feature_profile('tempo') ORDER BY q50 DESC, genre
