-- Lists of keys and of the audit log, a tenant's newest first.
CREATE INDEX api_keys_tenant ON api_keys (tenant_id, id);
CREATE INDEX audit_log_tenant ON audit_log (tenant_id, id);
