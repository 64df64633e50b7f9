package report

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"crypto/sha256"

	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

// file is a report as it is sent.
type file struct {
	place
	id      string
	from    mail.Address
	plain   []byte // XML or JSON
	packed  []byte
	name    string // of the file
	rows    int
	count   uint64
	skipped uint64 // messages or sessions of rows that are not in it
}

// deliver makes a report and brings it to where it is wanted. The error says that it is to be
// tried again.
func (b *Book) deliver(ctx context.Context, p pending) (done Sent, again error) {
	done = Sent{Kind: p.kind, Domain: p.domain, Day: p.day.begin()}
	asking, cancel := context.WithTimeout(ctx, askTime)
	targets, why, err := b.targets(asking, p)
	cancel()
	if err != nil {
		return done, err
	}
	if len(targets) == 0 {
		done.State, done.Reason = Unwanted, why
		return done, nil
	}
	from, err := b.opt.From(ctx)
	if err != nil {
		done.State, done.Reason = Dropped, fault.Say(err)
		if k := fault.Of(err); k.Temporary() {
			again = err
		}
		return done, again
	}
	f, err := b.compose(ctx, p, from)
	if err != nil {
		return done, err
	}
	if !slices.ContainsFunc(targets, func(t target) bool { return !t.to.IsZero() && b.isOurs(ctx, f.kind, t.to) }) {
		f.plain = nil // only what is filed here is read from it
	}
	done.ID, done.Rows, done.Count = f.id, f.rows, f.count
	if f.rows == 0 {
		done.State, done.Reason = Dropped, "nothing of what was counted could be read"
		return done, nil
	}
	return b.spread(ctx, f, targets, done, why)
}

// spread brings a report to all that want it. It counts as delivered if one has it.
func (b *Book) spread(ctx context.Context, f *file, targets []target, done Sent, why string) (Sent, error) {
	reasons, again := []string{}, error(nil)
	if why != "" {
		reasons = append(reasons, why)
	}
	done.State = Dropped
	for _, t := range targets {
		state, err := b.bring(ctx, f, t)
		if err != nil {
			if fault.Of(err).Temporary() {
				again = err
			}
			reasons = append(reasons, t.uri+": "+fault.Say(err))
			continue
		}
		done.To = append(done.To, t.uri)
		if done.State != Delivered {
			done.State = state
		}
	}
	done.Reason = strings.Join(reasons, "; ")
	if len(done.To) > 0 {
		again = nil
	}
	return done, again
}

// bring takes a report to one place.
func (b *Book) bring(ctx context.Context, f *file, t target) (State, error) {
	if t.to.IsZero() {
		if err := b.reserve(ctx, f.kind, t); err != nil {
			return "", err
		}
		return Delivered, b.post(ctx, t.uri, f.packed)
	}
	if b.isOurs(ctx, f.kind, t.to) {
		return Filed, b.fileOwn(ctx, f)
	}
	message := f.message(t.to, b.opt.Now())
	if t.limit > 0 && int64(len(message)) > t.limit {
		return "", fault.Newf(fault.TooLarge, "the report has %d bytes, and no more than %d are taken", len(message), t.limit)
	}
	// A null sender: nobody needs to be told that a report did not arrive. Its time is the
	// queue's own: a deadline would keep it from hosts without DELIVERBY, which are most.
	env := mail.Envelope{
		To:          []mail.Recipient{{Address: t.to, Notify: mail.NotifyNever}},
		UTF8:        !t.to.IsASCII(),
		TLSOptional: f.kind == TLS, // RFC 8460, 3: whatever TLS is like
	}
	if err := b.reserve(ctx, f.kind, t); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(f.id + "\x00" + t.uri))
	err := b.opt.Mail(ctx, "feedback "+hex.EncodeToString(sum[:16]), env, message)
	if err != nil {
		b.giveBack(ctx, f.kind, t)
	}
	return Delivered, err
}

// isOurs tells whether an address is of a domain here.
func (b *Book) isOurs(ctx context.Context, kind Kind, to mail.Address) bool {
	if b.opt.Asked == nil {
		return false
	}
	_, ok := b.opt.Asked(ctx, kind, to.Domain)
	return ok
}

// compose makes the report of a day. One is made at a time: its rows, its file and what that
// is packed from are in memory together.
func (b *Book) compose(ctx context.Context, p pending, from mail.Address) (*file, error) {
	b.composing.Lock()
	defer b.composing.Unlock()
	domain, err := dnsx.ASCII(from.Domain)
	if err != nil {
		return nil, err
	}
	from.Domain = domain
	sum := sha256.Sum256([]byte(b.opt.Hostname + "\x00" + string(p.prefix(famOwed))))
	f := &file{place: p.place, from: from, id: fmt.Sprintf("%s.%s@%s", p.day, hex.EncodeToString(sum[:8]), domain), skipped: p.Left}
	f.name = fmt.Sprintf("%s!%s!%d!%d", domain, p.domain, p.day.begin().Unix(), p.day.end().Unix()-1)
	if p.kind == TLS {
		f.name += ".json.gz"
		f.plain, err = b.tlsFile(ctx, p, f)
	} else {
		f.name += ".xml.gz"
		f.plain, err = b.dmarcFile(ctx, p, f)
	}
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(f.plain) // a Buffer has no errors
	_ = z.Close()
	f.packed = packed.Bytes()
	return f, nil
}

// organization is how we name ourselves.
func (b *Book) organization(from mail.Address) string {
	return cmp.Or(b.opt.Organization, from.Domain)
}

// rows reads what was counted. What cannot be read is left out.
func (b *Book) rows(ctx context.Context, p place, fn func(count uint64, row []byte) error) error {
	return b.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		from := append(p.prefix(famCount), 0)
		return r.Scan(from, engine.After(from), false, func(_, v []byte) bool {
			count, row, err := decodeCount(v)
			if err == nil {
				err = fn(count, row)
			}
			if err != nil {
				b.opt.Log.Error("a row of a report cannot be read and is left out", "domain", p.domain, "day", p.day.String(), "err", err)
			}
			return true
		})
	})
}

func (b *Book) dmarcFile(ctx context.Context, p pending, f *file) ([]byte, error) {
	record, _ := dmarc.ParseRecord(p.Policy)
	r := aggregate.Report{
		Organization: b.organization(f.from), Email: f.from.String(), ID: f.id,
		Begin: p.day.begin(), End: p.day.end().Add(-1e9), Generator: "martlet " + b.opt.Version, Policy: published(p.domain, record),
	}
	if record.Malformed {
		r.Error = "the DMARC record has no valid policy"
	}
	var records []aggregate.Record
	room := b.opt.MaxBytes
	err := b.rows(ctx, p.place, func(count uint64, row []byte) error {
		if room -= len(row); room < 0 {
			f.skipped += count
			return nil
		}
		one, err := decodeRecord(row)
		if err == nil {
			one.Count = count
			records = append(records, one)
			f.count += count
		}
		return err
	})
	slices.SortFunc(records, func(x, y aggregate.Record) int {
		return cmp.Or(x.Source.Compare(y.Source), cmp.Compare(x.HeaderFrom, y.HeaderFrom), cmp.Compare(x.EnvelopeFrom, y.EnvelopeFrom), cmp.Compare(x.Disposition, y.Disposition), cmp.Compare(string(encodeRecord(x)), string(encodeRecord(y))))
	})
	if f.skipped > 0 {
		r.Error = strings.TrimPrefix(r.Error+fmt.Sprintf("; %d more messages are not told of: their sources were too many", f.skipped), "; ")
	}
	r.Records, f.rows = records, len(records)
	return r.XML(), err
}

// published is a record in the words of a report.
func published(domain string, r dmarc.Record) aggregate.Policy {
	mode := map[bool]string{true: "s", false: "r"}
	p := aggregate.Policy{
		Domain: domain, Policy: string(cmp.Or(r.Policy, dmarc.PolicyNone)), Subdomains: string(r.Subdomains), NonExistent: string(r.NonExistent),
		DKIM: mode[r.StrictDKIM], SPF: mode[r.StrictSPF], Failure: strings.Join(r.Failure, ":"), Testing: r.Testing, Discovery: "treewalk",
	}
	return p
}

func (b *Book) tlsFile(ctx context.Context, p pending, f *file) ([]byte, error) {
	r := tlsrpt.Report{Organization: b.organization(f.from), Contact: f.from.String(), ID: f.id, Begin: p.day.begin(), End: p.day.end().Add(-1e9)}
	at, room := map[string]int{}, b.opt.MaxBytes
	err := b.rows(ctx, p.place, func(count uint64, row []byte) error {
		if room -= len(row); room < 0 {
			f.skipped += count
			return nil
		}
		policy, failure, err := decodeSession(row)
		if err != nil {
			return err
		}
		key := string(encodeSession(policy, tlsrpt.Failure{}))
		i, ok := at[key]
		if ok {
			room += len(key) - 1 // the policy is told of once; the 1 is of an empty Result
		} else {
			i = len(r.Policies)
			at[key] = i
			r.Policies = append(r.Policies, policy)
		}
		one := &r.Policies[i]
		f.rows++
		f.count += count
		if failure.Result == "" {
			one.Successes += count
			return nil
		}
		failure.Sessions = count
		one.Failed += count
		one.Failures = append(one.Failures, failure)
		return nil
	})
	for i := range r.Policies {
		slices.SortFunc(r.Policies[i].Failures, func(x, y tlsrpt.Failure) int {
			return cmp.Or(cmp.Compare(x.Result, y.Result), cmp.Compare(x.Host, y.Host), cmp.Compare(x.Receiving, y.Receiving), cmp.Compare(x.Reason, y.Reason))
		})
	}
	slices.SortFunc(r.Policies, func(x, y tlsrpt.Policy) int { return cmp.Compare(x.Type, y.Type) })
	return r.JSON(), err
}
