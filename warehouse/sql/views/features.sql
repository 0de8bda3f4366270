-- The measured features: one row per excerpt, one column per feature, statistic and dimension.
CREATE VIEW features AS FROM stored.features();
