-- Every number that changes a value in this store, as name and JSON value.
CREATE VIEW spec AS FROM stored.spec;
COMMENT ON COLUMN spec.name IS 'field of the spec';
COMMENT ON COLUMN spec.value IS 'its value, as JSON';
