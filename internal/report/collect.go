package report

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

// Bounds on what is counted between two flushes.
const (
	maxSeen     = 20_000 // rows
	maxText     = 200    // bytes of a stranger's text
	maxResults  = 10     // DKIM signatures of a row (RFC 9990, DKIM Signatures in Aggregate Reports)
	maxStrings  = 50     // lines of a policy
	maxRecorded = 4 << 10
)

// Message is a message from outside, as a report to its author's domain tells of it.
type Message struct {
	At     time.Time
	Domain string // the policy domain, in A-labels
	Policy string // its record, as it is published; only one with rua= is of interest
	Record aggregate.Record
}

// Session is an attempt to set up TLS with a host (RFC 8460, 4.1).
type Session struct {
	At     time.Time
	Domain string        // of the recipients, in A-labels
	Policy tlsrpt.Policy // which was to hold; its counts do not matter
	// Failure is the kind of failure and all that is known of it; its Result is "" if there
	// was none.
	Failure tlsrpt.Failure
}

// rowKey is a row of a report: its bytes without the count.
type rowKey struct {
	place
	row string
}

// seen is how often it was met.
type seen struct{ count uint64 }

// source is what is known of the domain of a report that is being made.
type source struct {
	policy string // the DMARC record
}

// Saw counts a message. It costs a look into a map, and never waits for the disk.
func (b *Book) Saw(m Message) {
	if b == nil || !b.opt.Collect || m.Domain == "" || len(m.Policy) > maxRecorded || !asksFor(m.Policy) {
		return
	}
	m.Record.Count = 0
	b.count(place{DMARC, dayOf(m.At), strings.ToLower(m.Domain)}, string(encodeRecord(tidy(m.Record))), source{m.Policy})
}

// Connected counts an attempt to set up TLS.
func (b *Book) Connected(s Session) {
	if b == nil || !b.opt.Collect || s.Domain == "" {
		return
	}
	b.count(place{TLS, dayOf(s.At), strings.ToLower(s.Domain)}, string(encodeSession(s.Policy, s.Failure)), source{})
}

func (b *Book) count(p place, row string, from source) {
	key := rowKey{p, row}
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.seen[key]
	if one == nil {
		if len(b.seen) >= maxSeen {
			b.lost++
			return
		}
		one = new(seen)
		b.seen[key] = one
		if len(b.seen) == maxSeen/2 {
			select {
			case b.full <- struct{}{}:
			default:
			}
		}
	}
	one.count++
	b.known[p] = from
}

// asksFor tells whether a record may ask for aggregate reports.
func asksFor(record string) bool { return strings.Contains(strings.ToLower(record), "rua") }

// tidy bounds a row, and gives rows that are alike one form.
func tidy(r aggregate.Record) aggregate.Record {
	r.Source = r.Source.Unmap().WithZone("")
	r.HeaderFrom, r.EnvelopeFrom, r.EnvelopeTo = clip(r.HeaderFrom), clip(r.EnvelopeFrom), clip(r.EnvelopeTo)
	r.DKIMResults = slices.Clone(r.DKIMResults)
	slices.SortStableFunc(r.DKIMResults, func(x, y aggregate.Result) int {
		return cmp.Compare(rank(x, r.HeaderFrom), rank(y, r.HeaderFrom))
	})
	r.DKIMResults = r.DKIMResults[:min(len(r.DKIMResults), maxResults)]
	for i := range r.DKIMResults {
		one := &r.DKIMResults[i]
		one.Domain, one.Selector, one.Human = clip(one.Domain), clip(one.Selector), clip(one.Human)
	}
	return r
}

// rank is the order in which signatures are told of: those that pass for the author's domain,
// for one above or below it, for others, those that fail (RFC 9990, DKIM Signatures in
// Aggregate Reports).
func rank(r aggregate.Result, author string) int {
	switch {
	case r.Result != "pass":
		return 3
	case r.Domain == author:
		return 0
	case strings.HasSuffix(author, "."+r.Domain), strings.HasSuffix(r.Domain, "."+author):
		return 1
	}
	return 2
}

// clip bounds a stranger's text and takes out what a file or a terminal could stumble over.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c == 0xfffe || c == 0xffff || c == 0x2028 || c == 0x2029 {
			return ' '
		}
		return c
	}, s)
}

// clips is clip for a list.
func clips(list []string) []string {
	out := make([]string, 0, min(len(list), maxStrings))
	for _, s := range list[:min(len(list), maxStrings)] {
		out = append(out, clip(s))
	}
	return out
}

// addrText is an address as reports write it, "" for none.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// Flush writes what was counted since the last time. If that fails, it is counted on.
func (b *Book) Flush(ctx context.Context) error {
	if b == nil {
		return nil
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	rows, known, lost := b.seen, b.known, b.lost
	b.seen, b.known, b.lost = map[rowKey]*seen{}, map[place]source{}, 0
	b.mu.Unlock()
	if lost > 0 {
		b.opt.Log.Warn("more was seen in a minute than is counted for reports", "not_counted", lost)
	}
	keys := make([]rowKey, 0, len(rows))
	for k := range rows {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y rowKey) int { return x.compare(y) })
	for len(keys) > 0 {
		n := min(len(keys), flushStep)
		if err := b.write(ctx, keys[:n], rows, known); err != nil {
			b.again(keys, rows, known)
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// flushStep bounds the rows of one Update.
const flushStep = 1000

// again takes back what could not be written.
func (b *Book) again(keys []rowKey, rows map[rowKey]*seen, known map[place]source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		switch one := b.seen[k]; {
		case one != nil:
			one.count += rows[k].count
		case len(b.seen) < maxSeen:
			b.seen[k] = rows[k]
		default:
			b.lost += rows[k].count
			continue
		}
		if _, ok := b.known[k.place]; !ok {
			b.known[k.place] = known[k.place]
		}
	}
}

func (k rowKey) compare(o rowKey) int {
	return cmp.Or(cmp.Compare(k.kind, o.kind), cmp.Compare(k.day, o.day), cmp.Compare(k.domain, o.domain), cmp.Compare(k.row, o.row))
}
