-- The public half of a key that signs, for receivers to verify by. Nothing secret.
ALTER TABLE secrets ADD COLUMN public_key bytea CHECK (length(public_key) = 32);
