#!/bin/bash
# Run once, by the image's entrypoint, on the new and still private database: the role of
# the standby, and from the next start on nothing is acknowledged that it does not have.
set -eu
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v password="$REPLICATION_PASSWORD" <<'SQL'
CREATE ROLE replication WITH REPLICATION LOGIN PASSWORD :'password';
SELECT pg_create_physical_replication_slot('standby');
ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby)';
SQL
echo "host replication replication samenet scram-sha-256" >>"$PGDATA/pg_hba.conf"
