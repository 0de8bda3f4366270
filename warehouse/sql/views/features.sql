-- The measured features: one row per excerpt, one column per feature, statistic and dimension.
FROM {source}
