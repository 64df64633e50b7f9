package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	keysFresh = time.Hour        // after which they are fetched again before use
	keysStale = 24 * time.Hour   // after which they are not used, should the issuer be down
	fetchGap  = 30 * time.Second // least time between two fetches, so that tokens with invented keys cannot make us a nuisance
	maxKeys   = 64               // that are kept
	maxTried  = 8                // for one token that names no key
	minRSA    = 2048             // bits
)

// keyRing holds the keys of an issuer.
type keyRing struct {
	fetch func(context.Context) ([]byte, error) // of the key set
	now   func() time.Time
	log   *slog.Logger
	turn  chan struct{} // held by who fetches

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys came
	asked   time.Time // when they were last asked for, whatever came of it
	failed  error     // of that
}

func newKeyRing(o Options, fetch func(context.Context) ([]byte, error)) *keyRing {
	return &keyRing{fetch: fetch, now: o.Now, log: o.Log, turn: make(chan struct{}, 1)}
}

// find returns the keys that a token may be signed with: the one it names, or if it
// names none those that fit its algorithm. An unknown key makes it look for new ones.
func (r *keyRing) find(ctx context.Context, id, algorithm string) ([]jose.JSONWebKey, error) {
	if found, good := r.look(id, algorithm, keysFresh); good {
		return found, nil
	}
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
	defer func() { <-r.turn }()
	if found, good := r.look(id, algorithm, keysFresh); good { // somebody else fetched
		return found, nil
	}
	r.renew(ctx)
	if found, good := r.look(id, algorithm, keysStale); good {
		return found, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil || r.fetched.IsZero() || age(r.fetched, r.now()) > keysStale {
		return nil, unavailable(r.failed)
	}
	return nil, errUnknownKey(id)
}

// look returns the keys that fit; good is false if there are none, or they are older
// than that.
func (r *keyRing) look(id, algorithm string, most time.Duration) (found []jose.JSONWebKey, good bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.keys {
		if (id == "" || k.KeyID == id) && (k.Algorithm == "" || k.Algorithm == algorithm) && len(found) < maxTried {
			found = append(found, k)
		}
	}
	return found, len(found) > 0 && age(r.fetched, r.now()) <= most
}

// age is the time between, whichever came first: a clock that was ahead makes nothing young.
func age(at, now time.Time) time.Duration { return now.Sub(at).Abs() }

// renew fetches the keys, unless that was tried a moment ago. The keys are everybody's:
// a client that hangs up does not end it.
func (r *keyRing) renew(ctx context.Context) {
	r.mu.Lock()
	now := r.now()
	wait := !r.asked.IsZero() && age(r.asked, now) < fetchGap
	if !wait {
		r.asked = now
	}
	r.mu.Unlock()
	if wait {
		return
	}
	text, err := r.fetch(context.WithoutCancel(ctx))
	var keys []jose.JSONWebKey
	if err == nil {
		keys, err = readKeys(text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed = err; err != nil {
		r.log.Error("keys of the token issuer could not be fetched", "err", err)
		return
	}
	r.keys, r.fetched = keys, now
	r.log.Info("keys of the token issuer fetched", "keys", len(keys))
}

// readKeys reads a key set (RFC 7517, 5) and returns the public keys for signatures. A
// key that is not understood is passed over, as the RFC asks.
func readKeys(text []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && usable(&k) && len(keys) < maxKeys {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func usable(k *jose.JSONWebKey) bool {
	if k.Use != "" && k.Use != "sig" || !k.Valid() {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= minRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false // a secret, or a private key, which nobody should publish
}
