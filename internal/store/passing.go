package store

import "github.com/martlet-mail/martlet/internal/engine"

// Passing tells whether a shard holds only what processes that work on the store tell each
// other: it is of no use once they have ended, and not copied.
func Passing(shard engine.Shard) bool {
	return shard == holdShard || shard >= occupyShards && shard < occupyShards+occupyShared
}
