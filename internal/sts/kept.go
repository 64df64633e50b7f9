package sts

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// Keys: p and the domain, in A-labels. Times are milliseconds since 1970.
const (
	famPolicy = 'p'
	version   = 1
)

// kept is a policy as it lies in the engine.
type kept struct {
	ID      string // of the TXT record when it was fetched
	Fetched int64
	Used    int64 // about when mail last went there
	Policy  Policy
}

// holds tells whether there is a policy that has not run out. One that is to end at once
// holds for a minute, for those who have waited for it; one from the future counts from now.
func (k *kept) holds(now int64) bool {
	return k.Policy.Mode != "" && now < min(k.Fetched, now)+max(k.Policy.MaxAge, time.Minute).Milliseconds()
}

func (k *kept) encode() []byte {
	var e record.Enc
	e.Str(k.ID)
	e.I(k.Fetched)
	e.I(k.Used)
	e.Str(string(k.Policy.Mode))
	e.U(uint64(k.Policy.MaxAge / time.Second))
	e.U(uint64(len(k.Policy.MX)))
	e.Str(k.Policy.MX...)
	return record.Seal(version, e)
}

func decode(b []byte) (k kept, err error) {
	kind, payload, err := record.Open(b)
	if err != nil {
		return k, err
	}
	if kind != version {
		return k, fault.Newf(fault.Corrupt, "a stored MTA-STS policy has version %d; this server knows %d", kind, version)
	}
	d := record.Dec{Rest: payload}
	k = kept{ID: d.Str(), Fetched: d.I(), Used: d.I()}
	k.Policy.Mode = Mode(d.Str())
	k.Policy.MaxAge = min(time.Duration(min(d.U(), 1<<32))*time.Second, maxMaxAge)
	for range d.Count() {
		k.Policy.MX = append(k.Policy.MX, d.Str())
	}
	return k, d.End("MTA-STS policy")
}

func key(domain string) []byte { return engine.KeyString(famPolicy, domain) }

// read returns what the engine has of a domain. A record that cannot be read is none: the
// next fetch writes it anew.
func (c *Cache) read(ctx context.Context, domain string) (k kept, err error) {
	err = c.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		v, ok, err := r.Get(key(domain))
		if err != nil || !ok {
			return err
		}
		var bad error
		if k, bad = decode(v); bad != nil {
			c.opt.Log.Error("the MTA-STS policy of a domain cannot be read and counts as none", "domain", domain, "err", bad)
			k = kept{}
		}
		return nil
	})
	return k, err
}

func (c *Cache) write(ctx context.Context, domain string, k kept) error {
	return c.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error { return w.Put(key(domain), k.encode()) })
}

// dated is a domain and when it has which policy, without the hosts that this names.
type dated struct {
	domain string
	kept
}

// maxStep is how many policies are looked at in one go.
const maxStep = 500

// after returns the policies of the domains that follow one, n at most, in order; none at
// the end. All hosts that others name are more than memory may have to hold.
func (c *Cache) after(ctx context.Context, domain string, n int) (some []dated, err error) {
	err = c.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		return r.Scan(append(key(domain), 0), []byte{famPolicy + 1}, false, func(k, v []byte) bool {
			one, err := decode(v)
			if err != nil { // it has run out, as far as we can tell
				one = kept{}
			}
			one.Policy.MX = nil
			some = append(some, dated{string(k[1:]), one})
			return len(some) < n
		})
	})
	return some, err
}

// forget removes a policy that has run out, unless it was renewed meanwhile.
func (c *Cache) forget(ctx context.Context, domain string, old kept) error {
	return c.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		v, ok, err := w.Get(key(domain))
		if err != nil || !ok {
			return err
		}
		if now, err := decode(v); err == nil && now.Fetched != old.Fetched {
			return nil
		}
		return w.Delete(key(domain))
	})
}
