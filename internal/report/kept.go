package report

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// Families of keys. o and c are of reports that are being made and go when they are sent; s
// is what is known of those that were; r and x are reports of others.
const (
	famOwed    = 'o' // kind, day, domain
	famCount   = 'c' // kind, day, domain, 0, hash of the row
	famDomains = 'n' // kind, day
	famRoom    = 'h' // kind, day of sending, organization, 0, whether about it or to it
	famSent    = 's' // day, kind, domain
	famReport  = 'r' // day of its end, kind, domain, 0, hash
	famRows    = 'x' // the same, number of the piece
)

const version = 1

// owed is a report that is being made.
type owed struct {
	Policy   string // the DMARC record, the last one seen
	Rows     uint64
	Left     uint64 // messages or sessions of rows that were too many
	Attempts uint64 // to send it
	Next     int64  // when the next one may come, in milliseconds since 1970; 0: when it is due
}

func (o owed) encode() []byte {
	var e record.Enc
	e.Str(o.Policy)
	e.U(o.Rows)
	e.U(o.Left)
	e.U(o.Attempts)
	e.I(o.Next)
	return record.Seal(version, e)
}

func decodeOwed(b []byte) (o owed, err error) {
	d, err := open(b)
	if err != nil {
		return o, err
	}
	o = owed{Policy: d.Str(), Rows: d.U(), Left: d.U(), Attempts: d.U(), Next: d.I()}
	return o, d.End("report")
}

// open checks a record of ours and its version.
func open(b []byte) (*record.Dec, error) {
	kind, payload, err := record.Open(b)
	if err != nil {
		return nil, err
	}
	if kind != version {
		return nil, unknownVersion(kind)
	}
	return &record.Dec{Rest: payload}, nil
}

func unknownVersion(kind byte) error {
	return fault.Newf(fault.Corrupt, "a stored report has version %d, which this server does not know", kind)
}

// prefix is the key of a place in a family; what follows in keys that have more begins with
// a zero byte, which no domain has.
func (p place) prefix(family byte) []byte {
	k := p.day.appendTo([]byte{family, byte(p.kind)})
	return append(k, p.domain...)
}

// parsePlace reads what prefix wrote.
func parsePlace(key []byte) (p place, rest []byte, ok bool) {
	if len(key) < 7 {
		return p, nil, false
	}
	domain, rest, _ := bytes.Cut(key[6:], []byte{0})
	return place{Kind(key[1]), day(binary.BigEndian.Uint32(key[2:])), string(domain)}, rest, true
}

func countKey(k rowKey) []byte {
	sum := sha256.Sum256([]byte(k.row))
	return append(append(k.place.prefix(famCount), 0), sum[:16]...)
}

func encodeCount(count uint64, row string) []byte {
	var e record.Enc
	e.U(count)
	e.Raw([]byte(row)...)
	return record.Seal(version, e)
}

func decodeCount(b []byte) (count uint64, row []byte, err error) {
	d, err := open(b)
	if err != nil {
		return 0, nil, err
	}
	count = d.U()
	return count, d.Rest, d.Err("row of a report")
}

// write adds rows to what is counted already. A record that cannot be read begins anew.
func (b *Book) write(ctx context.Context, keys []rowKey, rows map[rowKey]*seen, known map[place]source) error {
	return b.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		var at place
		var o owed
		var skip, begun bool
		for _, k := range keys {
			if k.place != at || !begun {
				if err := put(w, at, o, begun && !skip); err != nil {
					return err
				}
				var err error
				at, begun = k.place, true
				if o, skip, err = b.begin(w, at, known[at]); err != nil {
					return err
				}
			}
			if skip {
				continue
			}
			if err := b.add(w, k, rows[k].count, &o); err != nil {
				return err
			}
		}
		return put(w, at, o, begun && !skip)
	})
}

func put(w engine.Writer, p place, o owed, do bool) error {
	if !do {
		return nil
	}
	return w.Put(p.prefix(famOwed), o.encode())
}

// begin reads a report that is being made, or begins it; skip says that there are too many.
func (b *Book) begin(w engine.Writer, p place, from source) (o owed, skip bool, err error) {
	v, found, err := w.Get(p.prefix(famOwed))
	if err != nil {
		return o, false, err
	}
	if found {
		if o, err = decodeOwed(v); err == nil {
			o.Policy = from.policy
			return o, false, nil
		}
	} else {
		many := p.day.appendTo([]byte{famDomains, byte(p.kind)})
		n := uint64(0)
		if v, ok, err := w.Get(many); err != nil {
			return o, false, err
		} else if ok {
			n, _, _ = decodeCount(v)
		}
		if n >= uint64(b.opt.MaxDomains) {
			return o, true, nil
		}
		if err := w.Put(many, encodeCount(n+1, "")); err != nil {
			return o, false, err
		}
	}
	return owed{Policy: from.policy}, false, nil
}

func (b *Book) add(w engine.Writer, k rowKey, count uint64, o *owed) error {
	key := countKey(k)
	v, found, err := w.Get(key)
	if err != nil {
		return err
	}
	if found {
		if was, _, err := decodeCount(v); err == nil {
			return w.Put(key, encodeCount(was+count, k.row))
		}
	} else if o.Rows >= uint64(b.opt.MaxRows) {
		o.Left += count
		return nil
	} else {
		o.Rows++
	}
	return w.Put(key, encodeCount(count, k.row))
}
