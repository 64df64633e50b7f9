package directory

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// Where several processes share the directory, each brake tells the others of failures, and
// of addresses from which a login has worked, by records of a shard of their own: before an
// attempt is counted they are read, after a failure they are written. Only attempts that are
// being looked at are not known elsewhere: of those each node lets as many begin as a limit
// has room for.
const (
	brakeShard engine.Shard = 10

	famFailures = 'f' // hash of a login or an address -> its bucket
	famFriend   = 'g' // hash of a login and an address -> until when they are friends

	recBrake = 1

	brakeTidy   = 8              // records that are looked at by who writes one, whether they are over
	friendAgain = 24 * time.Hour // after which a friend is written down again
)

// told is what the records of one attempt say.
type told struct {
	login, address bucket
	friend         time.Time
}

func brakeKey(family byte, parts ...string) []byte {
	sum := sha256.New()
	for _, p := range parts {
		sum.Write([]byte(p))
		sum.Write([]byte{0})
	}
	return append([]byte{family}, sum.Sum(nil)[:16]...)
}

func loginKey(login string) []byte { return brakeKey(famFailures, "login", login) }

func blockKey(from netip.Prefix) []byte { return brakeKey(famFailures, "address", from.String()) }

func friendKey(login string, from netip.Prefix) []byte {
	return brakeKey(famFriend, login, from.String())
}

// hear takes over what other nodes have counted of a login and an address.
func (b *brake) hear(ctx context.Context, login string, from netip.Addr) error {
	if b.shared == nil {
		return nil
	}
	login = spelling(login)
	block := blockOf(from)
	var t told
	err := b.shared.View(ctx, brakeShard, func(r engine.Reader) (err error) {
		if t.login, err = getBucket(r, loginKey(login)); err != nil || !block.IsValid() {
			return err
		}
		if t.address, err = getBucket(r, blockKey(block)); err != nil {
			return err
		}
		k, err := getBucket(r, friendKey(login, block))
		t.friend = k.at
		return err
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if k := b.leaked(t.login, now); login != "" && k.level > b.leaked(b.logins[login], now).level {
		putBucket(b, b.logins, login, k)
	}
	if k := b.leaked(t.address, now); block.IsValid() && k.level > b.leaked(b.addresses[block], now).level {
		putBucket(b, b.addresses, block, k)
	}
	if f := (friend{login, block}); within(now, t.friend, friendFor) && t.friend.After(b.friends[f]) {
		b.friends[f] = t.friend
	}
	return nil
}

// tell writes a failure down.
func (a *attempt) tell(ctx context.Context) error {
	b := a.b
	if b.shared == nil {
		return nil
	}
	var keys [][]byte
	if a.byLogin {
		keys = append(keys, loginKey(a.login))
	}
	if a.from.IsValid() {
		keys = append(keys, blockKey(a.from))
	}
	return b.shared.Update(ctx, brakeShard, func(w engine.Writer) error {
		now := b.now()
		for _, key := range keys {
			k, err := getBucket(w, key)
			if err != nil {
				return err
			}
			if k = b.leaked(k, now); k.at.After(now) {
				k.at = now
			}
			k.level++
			if err := w.Put(key, k.encode()); err != nil {
				return err
			}
			if err := b.tidy(w, key, func(k bucket) bool { return b.leaked(k, now).level == 0 }); err != nil {
				return err
			}
		}
		return nil
	})
}

// befriend writes down that a login has worked from an address, if others may not know.
func (a *attempt) befriend(ctx context.Context, known time.Time) error {
	b := a.b
	now := b.now()
	if b.shared == nil || !a.from.IsValid() || a.login == "" || known.Sub(now) > friendFor-friendAgain {
		return nil
	}
	key := friendKey(a.login, a.from)
	return b.shared.Update(ctx, brakeShard, func(w engine.Writer) error {
		if err := w.Put(key, bucket{at: now.Add(friendFor)}.encode()); err != nil {
			return err
		}
		return b.tidy(w, key, func(k bucket) bool { return !within(now, k.at, friendFor) })
	})
}

// tidy removes what is over among the records behind a key: where keys are hashes, all have
// their turn.
func (b *brake) tidy(w engine.Writer, key []byte, over func(bucket) bool) error {
	var gone [][]byte
	n := 0
	err := w.Scan(append(key, 0), []byte{key[0] + 1}, false, func(k, v []byte) bool {
		if one, err := decodeBucket(v); fault.Is(err, fault.Corrupt) || err == nil && over(one) {
			gone = append(gone, append([]byte(nil), k...))
		}
		n++
		return n < brakeTidy
	})
	for _, k := range gone {
		if err == nil {
			err = w.Delete(k)
		}
	}
	return err
}

func getBucket(r engine.Reader, key []byte) (k bucket, err error) {
	v, ok, err := r.Get(key)
	if err != nil || !ok {
		return k, err
	}
	if k, err = decodeBucket(v); err != nil {
		return bucket{}, nil // it is counted anew
	}
	return k, nil
}

func (k bucket) encode() []byte {
	var e record.Enc
	e.U(uint64(k.level * 1000))
	e.I(k.at.UnixMilli())
	return record.Seal(recBrake, e)
}

func decodeBucket(v []byte) (k bucket, err error) {
	kind, p, err := record.Open(v)
	if err == nil && kind > recBrake {
		err = fault.Newf(fault.Unsupported, "failed logins have version %d, and this program knows %d", kind, recBrake)
	}
	if err != nil {
		return k, err
	}
	d := record.Dec{Rest: p}
	k.level = float64(d.U()) / 1000
	k.at = time.UnixMilli(d.I())
	return k, d.End("failed logins")
}
