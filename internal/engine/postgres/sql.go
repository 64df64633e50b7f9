package postgres

// order takes the rows of some shards, in their order: an UPDATE of several takes them in any
// order, and two nodes would wait for each other. A row that somebody else holds is not waited
// for, with the others held: it is left out.
const order = `SELECT shard FROM shards WHERE shard = ANY ($1::bigint[]) ORDER BY shard FOR UPDATE SKIP LOCKED`

// All statements of records. They keep to what CockroachDB, YugabyteDB and Citus have as
// well; what is PostgreSQL's own is in schema.go and pool.go, and may fail.
var (
	// What the rows of some shards say.
	stHeads = &statement{"m_heads", `SELECT shard, epoch, home, state, version, token, recent FROM shards WHERE shard = ANY ($1::bigint[])`}

	// And those of some shards that are not in the states with these tokens any more; 0 is that
	// of a shard without a row.
	stLook = &statement{"m_look", `SELECT n.shard, s.epoch, s.home, s.state, s.version, s.token, s.recent
FROM unnest($1::bigint[], $2::bigint[]) AS n(shard, token) LEFT JOIN shards AS s ON s.shard = n.shard WHERE COALESCE(s.token, 0) <> n.token`}

	// One record, and what the row of its shard says at that moment.
	stGet = &statement{"m_get", `SELECT s.epoch, s.home, s.state, s.version, s.token, CASE WHEN s.token = $3::bigint THEN NULL ELSE s.recent END, k.value
FROM (SELECT $1::bigint AS id) AS i LEFT JOIN shards AS s ON s.shard = i.id LEFT JOIN kv AS k ON k.shard = i.id AND k.key = $2::bytea`}

	// Some records, those that are not there without a value (a join might be planned to read the
	// whole shard), and before them what the row of their shard says at that moment.
	stSome = &statement{"m_some", `(SELECT epoch, home, state, version, token, CASE WHEN token = $3::bigint THEN NULL ELSE recent END AS recent, NULL::bytea AS key, NULL::bytea AS value FROM shards WHERE shard = $1::bigint)
UNION ALL (SELECT 0, 0, 0, 0, 0, NULL, n.key, (SELECT value FROM kv WHERE shard = $1::bigint AND kv.key = n.key) FROM unnest($2::bytea[]) AS n(key))`}

	// Records in [$2, $3), and before them what the row of their shard says at that moment.
	stScan = &statement{"m_scan", `(SELECT epoch, home, state, version, token, CASE WHEN token = $5::bigint THEN NULL ELSE recent END AS recent, NULL::bytea AS key, NULL::bytea AS value FROM shards WHERE shard = $1::bigint)
UNION ALL (SELECT 0, 0, 0, 0, 0, NULL, key, value FROM kv WHERE shard = $1::bigint AND key >= $2::bytea AND key < $3::bytea ORDER BY key LIMIT $4::bigint)`}
	stScanBack = &statement{"m_back", `(SELECT epoch, home, state, version, token, CASE WHEN token = $5::bigint THEN NULL ELSE recent END AS recent, NULL::bytea AS key, NULL::bytea AS value FROM shards WHERE shard = $1::bigint)
UNION ALL (SELECT 0, 0, 0, 0, 0, NULL, key, value FROM kv WHERE shard = $1::bigint AND key >= $2::bytea AND key < $3::bytea ORDER BY key DESC LIMIT $4::bigint)`}

	// Some records, those that are not there without a value (a join might be planned to read the
	// whole shard), and before them what the row of their shard says at that moment.
	stMany = &statement{"m_many", `(SELECT epoch, home, state, version, token, NULL::bytea AS recent, NULL::bytea AS key, NULL::bytea AS value FROM shards WHERE shard = $1::bigint)
UNION ALL (SELECT 0, 0, 0, 0, 0, NULL, n.key, (SELECT value FROM kv WHERE shard = $1::bigint AND kv.key = n.key) FROM unnest($2::bytea[]) AS n(key))`}

	stBegin    = &statement{"m_begin", `BEGIN`}
	stSnapshot = &statement{"m_snapshot", `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`}
	stCommit   = &statement{"m_commit", `COMMIT`}
	stRollback = &statement{"m_rollback", `ROLLBACK`}

	// A shard's row, kept from all others until the transaction ends.
	stLock = &statement{"m_lock", `SELECT shard, epoch, home, state, version, token, recent FROM shards WHERE shard = $1::bigint FOR UPDATE`}

	// Some shards go from the states they are in to new ones, whoever holds their rows.
	stGuard = &statement{"m_guard", `UPDATE shards AS s SET version = s.version + 1, token = n.token, recent = n.recent
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[]) AS n(shard, epoch, version, old, token, recent)
WHERE s.shard = n.shard AND s.epoch = n.epoch AND s.home = $7::bigint AND s.state < 2 AND s.version = n.version AND s.token = n.old RETURNING s.shard`}

	// The same of those whose rows nobody else holds.
	stGuards = &statement{"m_guards", `WITH o AS (` + order + `) UPDATE shards AS s SET version = s.version + 1, token = n.token, recent = n.recent
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[]) AS n(shard, epoch, version, old, token, recent) JOIN o ON o.shard = n.shard
WHERE s.shard = n.shard AND s.epoch = n.epoch AND s.home = $7::bigint AND s.state < 2 AND s.version = n.version AND s.token = n.old RETURNING s.shard`}

	// And some have never been written.
	stFirst = &statement{"m_first", `INSERT INTO shards (shard, epoch, home, state, version, token, recent)
SELECT n.shard, 0, $4::bigint, 0, 1, n.token, n.recent FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS n(shard, token, recent)
ON CONFLICT (shard) DO NOTHING RETURNING shard`}

	// What follows is void for a shard that did not go to its new state.
	stCut = &statement{"m_cut", `DELETE FROM kv WHERE shard = $1::bigint AND key >= $2::bytea AND key < $3::bytea
AND EXISTS (SELECT 1 FROM shards WHERE shard = $1::bigint AND token = $4::bigint)`}
	stDelete = &statement{"m_delete", `DELETE FROM kv USING unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS n(shard, token, key)
WHERE kv.shard = n.shard AND kv.key = n.key AND EXISTS (SELECT 1 FROM shards AS s WHERE s.shard = n.shard AND s.token = n.token)`}
	stPut = &statement{"m_put", `INSERT INTO kv (shard, key, value)
SELECT n.shard, n.key, n.value FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS n(shard, token, key, value)
JOIN shards AS s ON s.shard = n.shard AND s.token = n.token ON CONFLICT (shard, key) DO UPDATE SET value = excluded.value`}

	// The same in one statement, for commits that only put.
	stGuardedPut = &statement{"m_guarded", `WITH g AS (UPDATE shards AS s SET version = s.version + 1, token = n.token, recent = n.recent
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[]) AS n(shard, epoch, version, old, token, recent)
WHERE s.shard = n.shard AND s.epoch = n.epoch AND s.home = $7::bigint AND s.state < 2 AND s.version = n.version AND s.token = n.old RETURNING s.shard),
p AS (INSERT INTO kv (shard, key, value)
SELECT n.shard, n.key, n.value FROM unnest($8::bigint[], $9::bytea[], $10::bytea[]) AS n(shard, key, value) JOIN g ON g.shard = n.shard
ON CONFLICT (shard, key) DO UPDATE SET value = excluded.value)
SELECT shard FROM g`}

	// The same of several shards, as far as nobody else holds their rows.
	stGuardedPuts = &statement{"m_guardeds", `WITH o AS (` + order + `), g AS (UPDATE shards AS s SET version = s.version + 1, token = n.token, recent = n.recent
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[]) AS n(shard, epoch, version, old, token, recent) JOIN o ON o.shard = n.shard
WHERE s.shard = n.shard AND s.epoch = n.epoch AND s.home = $7::bigint AND s.state < 2 AND s.version = n.version AND s.token = n.old RETURNING s.shard),
p AS (INSERT INTO kv (shard, key, value)
SELECT n.shard, n.key, n.value FROM unnest($8::bigint[], $9::bytea[], $10::bytea[]) AS n(shard, key, value) JOIN g ON g.shard = n.shard
ON CONFLICT (shard, key) DO UPDATE SET value = excluded.value)
SELECT shard FROM g`}

	// A state that nobody wrote anything for takes the place of one that a commit in doubt
	// was to follow.
	stBump = &statement{"m_bump", `UPDATE shards SET version = version + 1, token = $5::bigint, recent = $6::bytea
WHERE shard = $1::bigint AND epoch = $2::bigint AND version = $3::bigint AND token = $4::bigint`}
	stBumpFirst = &statement{"m_bump1", `INSERT INTO shards (shard, epoch, home, state, version, token, recent) VALUES ($1::bigint, 0, $2::bigint, 0, 1, $3::bigint, $4::bytea)
ON CONFLICT (shard) DO NOTHING`}

	stPulse  = &statement{"m_pulse", `SELECT 1`}
	stActive = &statement{"m_active", `SELECT COALESCE(state, '') FROM pg_stat_activity WHERE pid = $1::bigint`}

	stShards = &statement{"m_shards", `SELECT shard FROM shards WHERE shard >= $1::bigint AND shard <= $2::bigint AND state <> 3
AND EXISTS (SELECT 1 FROM kv WHERE kv.shard = shards.shard) ORDER BY shard LIMIT 1000`}
	stSize   = &statement{"m_size", `SELECT pg_database_size(current_database())`}
	stNotify = &statement{"m_notify", `SELECT pg_notify($1::text, $2::text)`}
)
