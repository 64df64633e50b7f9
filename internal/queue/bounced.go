package queue

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Bounced is an address that does not exist, or takes no mail any more, as a host told an
// account of ours. Who goes on sending to such addresses looks like a spammer.
type Bounced struct {
	Login   string
	Address string // in lower case
	At      time.Time
	Code    int
	Said    string
}

// bouncedFor is how long that is remembered.
const bouncedFor = 90 * 24 * time.Hour

// hard tells whether a host's answer is about the address itself (RFC 3463, 3.2 and 3.3).
func hard(r Result) bool {
	if r.Code/100 != 5 || r.Host == "" {
		return false
	}
	switch r.Enhanced {
	case "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1":
		return true
	}
	return false
}

func bouncedKey(login string, a mail.Address) []byte {
	return append(append(bouncedPrefix(login), 0), a.Folded().String()...)
}

func bouncedPrefix(login string) []byte {
	return engine.KeyString(famBounced, strings.ToLower(strings.ReplaceAll(login, "\x00", "")))
}

// noteBounced remembers an address that an account should send to no more.
func (t tx) noteBounced(m *message, r *recipient, now int64) error {
	key := bouncedKey(m.env.Login, r.Address)
	if m.env.Login == "" || !hard(r.result) || len(key) > engine.MaxKey/2 {
		return nil
	}
	e := newEnc()
	e.I(now)
	e.U(uint64(r.result.Code))
	e.Str(sentence(r.result))
	v := record.Seal(version, e.Enc)
	if t.b.q.part == 0 {
		return t.Put(key, v)
	}
	if t.b.bounced == nil {
		t.b.bounced = map[string][]byte{}
	}
	t.b.bounced[string(key)] = v
	return nil
}

// noteElsewhere puts addresses that mail of another part came back from into the first part,
// where all nodes look. It is done after the outcome is durable: what is lost is noted again
// when the next message comes back.
func (q *Queue) noteElsewhere(ctx context.Context, list map[string][]byte) {
	if len(list) == 0 {
		return
	}
	err := q.eng.Update(ctx, shard, func(w engine.Writer) error {
		for _, key := range sortedKeys(list) {
			if err := w.Put([]byte(key), list[key]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		q.opt.Log.Warn("it is not remembered which addresses mail came back from", "error", err)
	}
}

func decodeBounced(k, v []byte) (b Bounced, err error) {
	login, address, _ := bytes.Cut(k[1:], []byte{0})
	d, err := newDec(v)
	if err != nil {
		return b, err
	}
	b = Bounced{Login: string(login), Address: string(address), At: time.UnixMilli(d.I()), Code: d.n(), Said: d.Str()}
	return b, d.end()
}

// fresh tells whether it still counts.
func (b Bounced) fresh(now int64) bool { return now-b.At.UnixMilli() < bouncedFor.Milliseconds() }

// Refused returns a fault of kind NotFound if mail of an account to an address has come
// back for good in the last 90 days.
func (q *Queue) Refused(ctx context.Context, login string, to mail.Address) error {
	key := bouncedKey(login, to)
	if len(key) > engine.MaxKey/2 {
		return nil
	}
	var b Bounced
	err := q.eng.View(ctx, shard, func(r engine.Reader) error {
		v, ok, err := r.Get(key)
		if err == nil && ok {
			b, err = decodeBounced(key, v)
		}
		return err
	})
	switch {
	case unreadable(err):
		return nil
	case err != nil:
		return err
	case b.Code == 0 || !b.fresh(q.now()):
		return nil
	}
	return fault.Newf(fault.NotFound, "mail of yours to %s came back on %s: %s", to, b.At.UTC().Format("2006-01-02"), b.Said)
}

// ListBounced yields what is remembered of an account, of all with "", in the order of
// accounts and addresses, until fn returns false.
func (q *Queue) ListBounced(ctx context.Context, login string, fn func(Bounced) bool) error {
	from, end := []byte{famBounced}, []byte{famBounced + 1}
	if login != "" {
		from = append(bouncedPrefix(login), 0)
		end = engine.After(from)
	}
	for from != nil {
		var list []Bounced
		now := q.now()
		var next []byte
		err := q.eng.View(ctx, shard, func(r engine.Reader) error {
			list, next = nil, nil
			return r.Scan(from, end, false, func(k, v []byte) bool {
				if len(list) == listBatch {
					next = bytes.Clone(k)
					return false
				}
				if b, err := decodeBounced(k, v); err == nil && b.fresh(now) {
					list = append(list, b)
				}
				return true
			})
		})
		if err != nil {
			return err
		}
		for _, b := range list {
			if !fn(b) {
				return nil
			}
		}
		from = next
	}
	return nil
}

// Forgive forgets that mail of an account to an address came back. Faults: NotFound.
func (q *Queue) Forgive(ctx context.Context, login string, to mail.Address) error {
	key := bouncedKey(login, to)
	return q.eng.Update(ctx, shard, func(t engine.Writer) error {
		_, ok, err := t.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			return fault.Newf(fault.NotFound, "no mail of %s to %s is known to have come back", login, to)
		}
		return t.Delete(key)
	})
}

// sweepBounced drops what is no longer remembered, once a day.
func (q *Queue) sweepBounced(ctx context.Context, now int64) error {
	if q.part != 0 || now-q.swept < (24*time.Hour).Milliseconds() {
		return nil
	}
	for from := []byte{famBounced}; from != nil; {
		var old [][]byte
		var next []byte
		err := q.eng.View(ctx, q.shard, func(r engine.Reader) error {
			old, next = nil, nil
			n := 0
			return r.Scan(from, []byte{famBounced + 1}, false, func(k, v []byte) bool {
				if n++; n > walkBatch {
					next = bytes.Clone(k)
					return false
				}
				if b, err := decodeBounced(k, v); err != nil || !b.fresh(now) {
					old = append(old, bytes.Clone(k))
				}
				return true
			})
		})
		if err == nil && len(old) > 0 {
			err = q.update(ctx, func(t tx) error {
				for _, k := range old {
					if err := t.Delete(k); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return err
		}
		from = next
	}
	q.swept = now
	return nil
}
