package report

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

// Received is a report that others have sent.
type Received struct {
	Kind         Kind
	Domain       string // it is about
	Begin, End   time.Time
	Reporter     string // the domain that it came from
	Verified     bool   // for sure
	Organization string // who says to have made it
	Email        string
	ID           string
	Arrived      time.Time
	More         int // rows that are not kept

	Aggregate *aggregate.Report // of DMARC
	TLS       *tlsrpt.Report
}

// Bounds on what is kept, so that nobody can fill the disk with reports.
const (
	pieceBytes   = 60 << 10 // of one record of rows
	reportBytes  = 6 << 20  // of all rows of a report
	maxRows      = 50_000   // of these
	dailyBytes   = 64 << 20 // of the reports about a domain here, and what is below it, that come in a day
	dailyDoubted = 2 << 20  // of these that nobody vouches for
)

// versionShort is of pieces of which a row of TLS without a policy has that of the row before.
const versionShort = 2

// famTaken: kind, day, domain here, 0, whether they are verified: how many bytes came.
const famTaken = 'b'

func (r *Received) place() place { return place{r.Kind, dayOf(r.End), r.Domain} }

// key names a report: one that comes again replaces itself.
func (r *Received) key(family byte) []byte {
	sum := sha256.Sum256([]byte(r.Reporter + "\x00" + r.ID + "\x00" + r.Begin.Format(time.RFC3339)))
	k := append(r.place().day.appendTo([]byte{family}), byte(r.Kind))
	return append(append(append(k, r.Domain...), 0), sum[:12]...)
}

func (r *Received) encode(pieces int) []byte {
	var e record.Enc
	for _, t := range []time.Time{r.Begin, r.End, r.Arrived} {
		e.I(t.Unix())
	}
	e.Str(r.Reporter)
	e.Bool(r.Verified)
	e.Str(r.Organization, r.Email, r.ID)
	e.U(uint64(r.More))
	e.U(uint64(pieces))
	var p aggregate.Policy
	if r.Aggregate != nil {
		p = r.Aggregate.Policy
	}
	e.Str(p.Policy, p.Subdomains, p.NonExistent, p.DKIM, p.SPF)
	e.Bool(p.Testing)
	return record.Seal(version, e)
}

// decodeReceived reads a report without its rows.
func decodeReceived(key, b []byte) (r Received, err error) {
	d, err := open(b)
	if err != nil {
		return r, err
	}
	for _, t := range []*time.Time{&r.Begin, &r.End, &r.Arrived} {
		*t = time.Unix(d.I(), 0).UTC()
	}
	r.Reporter, r.Verified = d.Str(), d.Bool()
	r.Organization, r.Email, r.ID = d.Str(), d.Str(), d.Str()
	r.More = int(min(d.U(), 1<<31))
	d.U()
	p := aggregate.Policy{Policy: d.Str(), Subdomains: d.Str(), NonExistent: d.Str(), DKIM: d.Str(), SPF: d.Str(), Testing: d.Bool()}
	var ok bool
	if r.Kind, r.Domain, ok = parseReceived(key); !ok {
		return r, fault.New(fault.Corrupt, "a stored report has an unknown key")
	}
	if p.Domain = r.Domain; r.Kind == DMARC {
		r.Aggregate = &aggregate.Report{Policy: p}
	} else {
		r.TLS = &tlsrpt.Report{}
	}
	return r, d.End("report")
}

func parseReceived(key []byte) (kind Kind, domain string, ok bool) {
	i := slices.Index(key[min(len(key), 6):], 0)
	if i < 0 {
		return 0, "", false
	}
	return Kind(key[5]), string(key[6 : 6+i]), true
}

// rows are those of a report, one after the other: written out they may be a thousand times
// what came, as each session has its policy.
func (r *Received) rows() iter.Seq[row] {
	return func(yield func(row) bool) {
		if r.Aggregate != nil {
			for _, one := range r.Aggregate.Records {
				if !yield(row{count: one.Count, record: one}) {
					return
				}
			}
		}
		if r.TLS != nil {
			for _, p := range r.TLS.Policies {
				if !sessions(p, yield) {
					return
				}
			}
		}
	}
}

// sessions yields the rows of one policy.
func sessions(p tlsrpt.Policy, yield func(row) bool) bool {
	if p.Type == "" {
		p.Type = "no-policy-found"
	}
	if !yield(row{count: p.Successes, policy: p}) {
		return false
	}
	told := uint64(0)
	for _, f := range p.Failures {
		if !yield(row{count: f.Sessions, policy: p, failure: f, again: true}) {
			return false
		}
		told += f.Sessions
	}
	return p.Failed <= told || // else counted, and not explained
		yield(row{count: p.Failed - told, policy: p, failure: tlsrpt.Failure{Result: "validation-failure"}, again: true})
}

// encode writes a row as it is kept; short leaves out the policy.
func (r *row) encode(kind Kind, short bool) []byte {
	var e record.Enc
	e.U(r.count)
	switch {
	case kind == DMARC:
		return append(e, encodeRecord(r.record)...)
	case short:
		return append(e, encodeSession(tlsrpt.Policy{}, r.failure)...)
	}
	return append(e, encodeSession(r.policy, r.failure)...)
}

// pieces packs rows into records, as many as are kept, and counts the others.
func (r *Received) pieces() (list [][]byte) {
	form, most := byte(version), maxRows
	if r.Kind == TLS {
		form = versionShort
	}
	if !r.Verified {
		most = unverifieds
	}
	var e record.Enc
	kept, sum, full := 0, 0, false
	for one := range r.rows() {
		if full = full || kept == most; full {
			r.More++
			continue
		}
		line := one.encode(r.Kind, one.again && len(e) > 0)
		if len(e) > 0 && len(e)+len(line) > pieceBytes {
			list, e = append(list, record.Seal(form, e)), nil
			line = one.encode(r.Kind, false)
		}
		if sum += len(line); sum > reportBytes || len(line) > pieceBytes {
			full = true
			r.More++
			continue
		}
		kept++
		e.Bytes(line)
	}
	if len(e) > 0 {
		list = append(list, record.Seal(form, e))
	}
	return list
}

// store keeps a report, and counts its bytes to a domain here. What is verified is never
// replaced by what is not.
func (b *Book) store(ctx context.Context, r *Received, home string) error {
	pieces := r.pieces()
	key, rows, head := r.key(famReport), r.key(famRows), r.encode(len(pieces))
	size, most := uint64(len(key)+len(head)), uint64(dailyBytes)
	for _, p := range pieces {
		size += uint64(len(rows) + 4 + len(p))
	}
	flag := byte('v')
	if !r.Verified {
		flag, most = 'u', dailyDoubted
	}
	budget := append(place{r.Kind, dayOf(b.opt.Now()), home}.prefix(famTaken), 0, flag)
	return b.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		v, found, err := w.Get(key)
		if err != nil {
			return err
		}
		if was, bad := decodeReceived(key, v); found && bad == nil && was.Verified && !r.Verified {
			return nil
		}
		taken := uint64(0)
		if v, ok, err := w.Get(budget); err != nil {
			return err
		} else if ok {
			taken, _, _ = decodeCount(v)
		}
		if taken+size > most {
			return fault.Newf(fault.Limited, "too many reports about %s have come today", home)
		}
		if err := w.Put(budget, encodeCount(taken+size, "")); err != nil {
			return err
		}
		if err := w.DeleteRange(rows, engine.After(rows)); err != nil {
			return err
		}
		for i, p := range pieces {
			if err := w.Put(binary.BigEndian.AppendUint32(slices.Clone(rows), uint32(i)), p); err != nil {
				return err
			}
		}
		return w.Put(key, head)
	})
}

// Query says which reports are wanted.
type Query struct {
	Domain string // "": all
	Kind   Kind   // 0: all
	Since  time.Time
}

// each yields the reports, the oldest first, with their rows. What cannot be read is left
// out and logged.
func (b *Book) each(ctx context.Context, q Query, fn func(Received, []row)) error {
	return b.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		var heads []Received
		var keys [][]byte
		err := r.Scan(dayOf(q.Since).appendTo([]byte{famReport}), []byte{famReport + 1}, false, func(k, v []byte) bool {
			kind, domain, ok := parseReceived(k)
			if !ok || q.Kind != 0 && q.Kind != kind || q.Domain != "" && q.Domain != domain {
				return true
			}
			one, err := decodeReceived(k, v)
			if err != nil {
				b.opt.Log.Error("a report cannot be read", "domain", domain, "err", err)
				return true
			}
			heads, keys = append(heads, one), append(keys, slices.Clone(k))
			return true
		})
		if err != nil {
			return err
		}
		for i, one := range heads {
			from := keys[i]
			from[0] = famRows
			rows, err := b.readRows(r, one.Kind, from)
			if err != nil {
				return err
			}
			fn(one, rows)
		}
		return ctx.Err()
	})
}

// row is one of a report: of DMARC, or of TLS.
type row struct {
	count   uint64
	record  aggregate.Record
	policy  tlsrpt.Policy
	failure tlsrpt.Failure
	again   bool // the policy is that of the row before
}

func (b *Book) readRows(r engine.Reader, kind Kind, from []byte) (rows []row, err error) {
	err = r.Scan(from, engine.After(from), false, func(_, v []byte) bool {
		var bad error
		if rows, bad = readPiece(rows, kind, v); bad != nil {
			b.opt.Log.Error("rows of a report cannot be read", "err", bad)
		}
		return true
	})
	return rows, err
}

// readPiece adds the rows of a piece, as far as it can be read.
func readPiece(rows []row, kind Kind, v []byte) ([]row, error) {
	form, payload, err := record.Open(v)
	if err != nil {
		return rows, err
	}
	if form != version && form != versionShort {
		return rows, unknownVersion(form)
	}
	d := &record.Dec{Rest: payload}
	var last tlsrpt.Policy
	for len(d.Rest) > 0 {
		line := &record.Dec{Rest: d.Bytes()}
		one := row{count: line.U()}
		if kind == DMARC {
			one.record, err = decodeRecord(line.Rest)
		} else {
			one.policy, one.failure, err = nextSession(line.Rest, last)
			last = one.policy
		}
		if err = cmp.Or(err, line.Err("row"), d.Err("row")); err != nil {
			return rows, err
		}
		rows = append(rows, one)
	}
	return rows, nil
}

// SentSince returns what became of our own reports, the oldest first.
func (b *Book) SentSince(ctx context.Context, q Query) (list []Sent, err error) {
	if b == nil {
		return nil, nil
	}
	err = b.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		list = nil
		return r.Scan(dayOf(q.Since).appendTo([]byte{famSent}), []byte{famSent + 1}, false, func(k, v []byte) bool {
			if len(k) < 7 {
				return true
			}
			kind, domain := Kind(k[5]), string(k[6:])
			if q.Kind != 0 && q.Kind != kind || q.Domain != "" && q.Domain != domain {
				return true
			}
			s, err := decodeSent(v)
			if err != nil {
				b.opt.Log.Error("what became of a report cannot be read", "domain", domain, "err", err)
				return true
			}
			s.Kind, s.Domain, s.Day = kind, domain, day(binary.BigEndian.Uint32(k[1:])).begin()
			list = append(list, s)
			return true
		})
	})
	return list, err
}
