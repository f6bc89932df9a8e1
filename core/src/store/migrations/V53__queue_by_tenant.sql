-- Lists of what waits for one tenant, newest event first, without looking at the others' backlogs.
CREATE INDEX queue_tenant ON queue (tenant_id, event_id);
