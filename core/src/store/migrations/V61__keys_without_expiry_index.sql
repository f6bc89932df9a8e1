-- Every webhook went through this index twice; the janitor walks the table instead.
DROP INDEX dedup_keys_expiry;
