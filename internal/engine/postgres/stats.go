package postgres

import "sync/atomic"

// Stats counts what the engine does. Reads, Proofs, Snapshots and Loads are round trips that
// a call waits for.
type Stats struct {
	Reads         atomic.Int64 // for records that are not in memory
	Proofs        atomic.Int64 // whether what is in memory is true
	Snapshots     atomic.Int64 // transactions of Views that hold a moment still
	Loads         atomic.Int64 // transactions with commits
	RowLocks      atomic.Int64 // transactions that lock a shard's row first
	Looks         atomic.Int64 // at shards that somebody waits for; Proofs counts them too
	Hints         atomic.Int64 // sent
	Connects      atomic.Int64
	Proven        atomic.Int64 // shards, by Proofs
	Commits       atomic.Int64 // of shards, by Loads
	Updates       atomic.Int64 // calls, by Commits
	Clashes       atomic.Int64 // commits that came too late
	Serialization atomic.Int64 // transactions that the database gave up: 40001, 40P01
	Reruns        atomic.Int64 // of functions
	Doubts        atomic.Int64 // commits whose connection broke
	Unknown       atomic.Int64 // of them, those that remained unknown
	Vouched       atomic.Int64 // commits whose wait for the replica was cancelled
	Forwarded     atomic.Int64 // shards brought up to what other nodes did
	Forgotten     atomic.Int64 // of them, those of which all was forgotten
	Hits          atomic.Int64 // Gets that found in memory what they asked for
	Misses        atomic.Int64 // Gets and parts of scans that did not
	Blobs         atomic.Int64 // statements for blobs
	unread        atomic.Int64
}
