-- Half a hash tells the keys of one scope apart, and halves the index that every webhook goes through.
ALTER TABLE dedup_keys DROP CONSTRAINT dedup_keys_key_hash_check;
ALTER TABLE dedup_keys ALTER key_hash TYPE uuid USING encode(substring(key_hash FOR 16), 'hex')::uuid;
