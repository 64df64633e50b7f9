#!/bin/bash
# Runs a standby: on the first start a copy of the primary, from then on what is there.
# The name under which the primary waits for it is "standby".
set -eu
export PGPASSWORD="$REPLICATION_PASSWORD"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	until pg_basebackup -D "$PGDATA" -R -X stream -S standby \
		-d "host=$PRIMARY port=${PRIMARY_PORT:-5432} user=replication application_name=standby"; do
		echo "the primary does not answer yet"
		sleep 1
	done
	chmod 700 "$PGDATA"
fi
exec postgres -D "$PGDATA" "$@"
