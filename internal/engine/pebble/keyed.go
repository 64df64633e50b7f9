package pebble

import (
	"context"
	"sync"

	"github.com/martlet-mail/martlet/internal/turn"
)

// keyed holds one value of type V for each key somebody is busy with, and forgets
// it when nobody is.
type keyed[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]*entry[V]
}

type entry[V any] struct {
	refs  int
	lock  chan struct{} // holds a token while somebody works alone
	value V
}

// get returns the entry of key and counts one more user of it.
func (k *keyed[K, V]) get(key K) *entry[V] {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.m[key]
	if e == nil {
		if k.m == nil {
			k.m = map[K]*entry[V]{}
		}
		e = &entry[V]{lock: make(chan struct{}, 1)}
		k.m[key] = e
	}
	e.refs++
	return e
}

// peek returns the entry of key only if somebody is busy with it.
func (k *keyed[K, V]) peek(key K) *entry[V] {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.m[key]
	if e != nil {
		e.refs++
	}
	return e
}

// put gives back what get or peek returned.
func (k *keyed[K, V]) put(key K, e *entry[V]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.refs--; e.refs == 0 {
		delete(k.m, key)
	}
}

// acquire waits to be alone, or for ctx or stop to end the wait.
func (e *entry[V]) acquire(ctx context.Context, stop <-chan struct{}) error {
	select {
	case e.lock <- struct{}{}:
		return nil
	default:
	}
	work := turn.Of(ctx)
	work.Rest()
	defer work.Return() // at once: with the lock, nobody may wait for a processor
	select {
	case e.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-stop:
		return errStopped
	}
}

func (e *entry[V]) release() { <-e.lock }
