-- What the steps of an attempt took, in microseconds. A connection that was used again had no look-up, no
-- connect and no TLS: those are null.
ALTER TABLE attempts
    ADD COLUMN dns_us int,
    ADD COLUMN connect_us int,
    ADD COLUMN tls_us int,
    ADD COLUMN first_byte_us int;
-- Columns of the same order, for what is copied there.
ALTER TABLE attempts_kept
    ADD COLUMN dns_us int,
    ADD COLUMN connect_us int,
    ADD COLUMN tls_us int,
    ADD COLUMN first_byte_us int;
