package directory

import (
	"sync"

	"github.com/martlet-mail/martlet/internal/mail"
)

// maxCached bounds each of the cache's tables, in entries of some 200 bytes.
const maxCached = 100_000

// cache holds records that were read. It is emptied by every change of the shard:
// changes are rare, and a reader after a change must see it. Of addresses only what
// exists is held, so that guessing names fills nothing; of domains also that they
// are foreign, since mail for them is the rule.
type cache struct {
	ticks <-chan struct{} // of the engine: somebody changed the shard

	mu         sync.RWMutex
	generation uint64
	domains    map[string]maybeDomain
	entries    map[mail.Address]entry
	accounts   map[mail.AccountID]*accountRecord
	first      mail.AccountID
	signers    map[string][]SigningKey
	settings   map[string]Settings
	elsewhere  map[struct{}]bool // whether there are accounts with a password elsewhere
}

// maybeDomain is a domain's record, if it is local.
type maybeDomain struct {
	domainRecord
	local bool
}

// now returns the present generation. What is read from the engine after it may be
// put into the cache as long as the generation is the same.
func (c *cache) now() uint64 {
	select {
	case <-c.ticks:
		return c.clear()
	default:
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.generation
}

func (c *cache) clear() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.domains, c.entries, c.accounts, c.first = nil, nil, nil, 0
	c.signers, c.settings, c.elsewhere = nil, nil, nil
	return c.generation
}

// lookup returns what a table of the cache holds under a key.
func lookup[K comparable, V any](c *cache, table *map[K]V, key K) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := (*table)[key]
	return v, ok
}

// keep puts a value that was read in the given generation into a table.
func keep[K comparable, V any](c *cache, table *map[K]V, generation uint64, key K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	if *table == nil || len(*table) >= maxCached {
		*table = map[K]V{}
	}
	(*table)[key] = v
}
