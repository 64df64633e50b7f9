package directory

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// maxRemembered bounds how many logins are remembered, at some 150 bytes each.
const maxRemembered = 50_000

// rememberer knows passwords again that were right a short while ago, so that a
// client which logs in for every request does not cost an argon2 hash each time. It
// keeps no password: only an HMAC under a key that dies with the process.
type rememberer struct {
	key [32]byte
	ttl time.Duration // not above 0: remember nothing
	now func() time.Time

	mu   sync.Mutex
	seen map[string]remembered // by login, folded
}

type remembered struct {
	mac   [sha256.Size]byte
	until time.Time
}

func newRememberer(opt Options) (*rememberer, error) {
	r := &rememberer{ttl: opt.RememberFor, now: opt.Now, seen: map[string]remembered{}}
	if _, err := io.ReadFull(opt.Rand, r.key[:]); err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	return r, nil
}

// mac binds a password to its login, to the account and to the version of the credentials
// it was checked against: a change of password makes it worthless, and so does a new
// account under the same address, whose versions begin anew.
func (r *rememberer) mac(login string, id mail.AccountID, password string, version uint64) (out [sha256.Size]byte) {
	h := hmac.New(sha256.New, r.key[:])
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(id)), version))
	h.Write([]byte(login))
	h.Write([]byte{0})
	h.Write([]byte(password))
	h.Sum(out[:0])
	return out
}

// knows tells whether the password was right before.
func (r *rememberer) knows(login string, id mail.AccountID, password string, version uint64) bool {
	r.mu.Lock()
	was, ok := r.seen[login]
	r.mu.Unlock()
	if !ok || !within(r.now(), was.until, r.ttl) {
		return false
	}
	mac := r.mac(login, id, password, version)
	return hmac.Equal(mac[:], was.mac[:])
}

// add remembers a password that argon2 has found right.
func (r *rememberer) add(login string, id mail.AccountID, password string, version uint64) {
	if r.ttl <= 0 {
		return
	}
	now := r.now()
	fresh := remembered{r.mac(login, id, password, version), now.Add(r.ttl)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) >= maxRemembered {
		prune(r.seen, maxRemembered, func(v remembered) bool { return !within(now, v.until, r.ttl) })
	}
	r.seen[login] = fresh
}

// forget drops what is remembered of a login.
func (r *rememberer) forget(login string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seen, login)
}

// prune makes room in a full table: first what is over, then, if that is little,
// whatever comes, until an eighth is free. The cost is spread over the additions
// that fill the room.
func prune[K comparable, V any](m map[K]V, limit int, over func(V) bool) {
	for k, v := range m {
		if over(v) {
			delete(m, k)
		}
	}
	for k := range m {
		if len(m) <= limit-limit/8 {
			return
		}
		delete(m, k)
	}
}
