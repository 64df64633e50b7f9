package report

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Bounds on what is read of mail that may be a report.
const (
	maxInbox = 64       // messages that wait to be read
	maxPart  = 30 << 20 // bytes of an attachment, as it travels
	maxParts = 30       // parts that are looked at
	maxBelow = 8        // labels between a name and the domain here that it is below
	readTime = 30 * time.Second
	oldest   = 60 * 24 * time.Hour // of what is reported
	youngest = 2 * 24 * time.Hour  // in the future, for clocks that are wrong

	unverifieds  = 200     // rows that are kept of a report that nobody vouches for
	doubtedBytes = 2 << 20 // that are read of it, unpacked
)

// bounds are those on one reading; zero: those of the formats.
type bounds struct {
	part int64 // bytes of the attachment
	time time.Duration
	xml  aggregate.Limits
	json tlsrpt.Limits
}

// whole are the bounds when nobody waits, and atOnce while a host waits for our reply. doubted
// are of what nobody vouches for.
var (
	whole   = bounds{part: maxPart, time: readTime}
	atOnce  = bounds{4 << 20, 5 * time.Second, aggregate.Limits{Bytes: 6 << 20, Tokens: 500_000}, tlsrpt.Limits{Bytes: 2 << 20}}
	doubted = bounds{maxPart, readTime, aggregate.Limits{Bytes: doubtedBytes, Tokens: doubtedBytes / 10}, tlsrpt.Limits{Bytes: doubtedBytes}}
)

// Letter is a message from outside that may be a report.
type Letter struct {
	At   time.Time
	Part *mime.Part // the attachment, as Attachment found it
	Open func(ctx context.Context, off, n int64) (io.ReadCloser, error)
	To   []mail.Address

	// Reporter is the domain in From. Verified says that it is so for sure: DMARC passed, or
	// there is no policy and a signature of the domain is valid. Signed says that such a
	// signature is.
	Reporter         string
	Verified, Signed bool
}

// letter is one that waits.
type letter struct{ Letter }

// Attachment returns the part of a message that looks like the file of a report, or nil. It
// goes by types and names alone, and costs next to nothing.
func Attachment(root *mime.Part, subject string) *mime.Part {
	if root == nil {
		return nil
	}
	sign := strings.Contains(strings.ToLower(subject), "report domain:") ||
		root.IsMultipart() && root.Subtype == "report" && strings.EqualFold(root.Params.Get("report-type"), "tlsrpt")
	left := maxParts
	return find(root, sign, &left, 0)
}

func find(p *mime.Part, sign bool, left *int, depth int) *mime.Part {
	if *left--; *left < 0 || depth > 4 {
		return nil
	}
	if p.IsMultipart() {
		for _, c := range p.Children {
			if got := find(c, sign, left, depth+1); got != nil {
				return got
			}
		}
		return nil
	}
	switch p.Type + "/" + p.Subtype {
	case "application/tlsrpt+gzip", "application/tlsrpt+json":
		return p
	case "application/gzip", "application/x-gzip", "application/gzip-compressed", "application/x-gzip-compressed", "application/x-gunzip",
		"application/zip", "application/x-zip", "application/x-zip-compressed", "application/octet-stream", "application/x-compressed",
		"application/xml", "text/xml", "application/json":
		if sign || strings.Count(p.Filename(), "!") >= 3 {
			return p
		}
	}
	return nil
}

// Arrived takes a message to be read as a report, without waiting. When too many wait it is
// not read; it is in its mailbox all the same.
func (b *Book) Arrived(l Letter) {
	if b == nil || b.opt.Asked == nil || l.Part == nil || !b.forUs(context.Background(), l) {
		return
	}
	select {
	case b.inbox <- letter{l}:
	default:
		b.opt.Log.Warn("reports come faster than they are read; this one is only in its mailbox", "reporter", l.Reporter)
	}
}

// forUs tells whether some recipient is of a domain here that asks for reports at all.
func (b *Book) forUs(ctx context.Context, l Letter) bool {
	for _, to := range l.To {
		if _, ok := b.opt.Asked(ctx, DMARC, to.Domain); ok {
			return true
		}
	}
	return false
}

// Take reads a message as a report and keeps it. It tells whether nothing of it is lost without
// the message: it is kept durably and whole, it is verified, and all recipients are addresses
// for reports.
func (b *Book) Take(ctx context.Context, l Letter) (all bool) {
	if b == nil || b.opt.Asked == nil || l.Part == nil || !b.forUs(ctx, l) {
		return false
	}
	lim := whole
	if !l.Verified {
		lim = doubted
	}
	all, err := b.read(ctx, l, lim)
	return b.took(l, all, err)
}

func (b *Book) took(l Letter, all bool, err error) bool {
	if err != nil {
		b.opt.Log.Warn("a report cannot be read; it is only in its mailbox", "reporter", l.Reporter, "reason", fault.Say(err), "err", err)
	}
	return all && err == nil
}

// TakeAtOnce is Take while a host waits for our reply: for one message at a time, of those that
// are verified, and with lower bounds. Others are read as by Arrived, and need their mailbox.
// As in readAll, there is a rest after each.
func (b *Book) TakeAtOnce(ctx context.Context, l Letter) (all bool) {
	if b == nil || b.opt.Asked == nil || l.Part == nil || !b.forUs(ctx, l) {
		return false
	}
	if !l.Verified || l.Part.Size() > atOnce.part {
		b.Arrived(l)
		return false
	}
	select {
	case b.desk <- struct{}{}:
	default:
		b.Arrived(l)
		return false
	}
	began := b.opt.Now()
	all, err := b.read(ctx, l, atOnce)
	time.AfterFunc(min(max(b.opt.Now().Sub(began), 0), readTime), func() { <-b.desk })
	if fault.Is(err, fault.TooLarge) || fault.Is(err, fault.Closed) {
		b.Arrived(l)
		return false
	}
	return b.took(l, all, err)
}

// readAll reads what waits until ctx ends. It rests for as long as it has worked, so that a
// flood of reports has half of one processor at most.
func (b *Book) readAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-b.inbox:
			began := b.opt.Now()
			b.Take(ctx, l.Letter)
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(max(b.opt.Now().Sub(began), 0), readTime)):
			}
		}
	}
}

// read is Take within bounds.
func (b *Book) read(ctx context.Context, l Letter, lim bounds) (all bool, err error) {
	defer func() { // here so that a report fails, not the process
		if p := recover(); p != nil {
			all, err = false, fault.Newf(fault.Internal, "panic in a report: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, lim.time)
	defer cancel()
	if l.Part.Size() > lim.part {
		return false, fault.Newf(fault.TooLarge, "the attachment has %d bytes, more than %d", l.Part.Size(), lim.part)
	}
	body, err := l.Open(ctx, l.Part.Body, l.Part.Size())
	if err != nil {
		return false, err
	}
	defer body.Close()
	got, err := parse(ctx, mime.NewDecoder(l.Part.Encoding, body), lim)
	if err != nil {
		return false, err
	}
	got.Reporter, got.Arrived = cut(l.Reporter), l.At
	got.Verified = l.Verified && (got.Kind == DMARC || l.Signed) // RFC 8460, 3: a signature is needed
	return b.keep(ctx, got, l.To)
}

// parse reads a file that may be packed.
func parse(ctx context.Context, r io.Reader, lim bounds) (*Received, error) {
	what, in, err := unpack(r)
	if err != nil {
		return nil, err
	}
	got := &Received{Kind: DMARC}
	if what == xmlForm {
		a, err := aggregate.Parse(ctx, in, lim.xml)
		if err != nil {
			return nil, err
		}
		got.Aggregate = a
		got.Domain, got.Begin, got.End = a.Policy.Domain, a.Begin, a.End
		got.Organization, got.Email, got.ID, got.More = a.Organization, a.Email, a.ID, a.More
		return got, nil
	}
	t, err := tlsrpt.Parse(ctx, in, lim.json)
	if err != nil {
		return nil, err
	}
	got.Kind, got.TLS = TLS, t
	got.Begin, got.End, got.Organization, got.Email, got.ID, got.More = t.Begin, t.End, t.Organization, t.Contact, t.ID, t.More
	got.Domain = t.Policies[0].Domain
	return got, nil
}

// keep keeps a report if it is one for us: about a domain here, or below one, that asks for it
// at this address, or at an address that is for reports. all is as Take has it.
func (b *Book) keep(ctx context.Context, got *Received, to []mail.Address) (all bool, err error) {
	name, err := dnsx.ASCII(got.Domain)
	if err != nil {
		return false, fault.New(fault.Invalid, "the report is about a domain that is none")
	}
	got.Domain = name
	now := b.opt.Now()
	if got.End.Before(now.Add(-oldest)) || got.Begin.After(now.Add(youngest)) {
		return false, fault.Newf(fault.Invalid, "the report is about %s to %s, which is too long ago or has not been yet", got.Begin.Format(time.DateOnly), got.End.Format(time.DateOnly))
	}
	home, ok := b.home(ctx, got)
	if !ok {
		return false, fault.Newf(fault.Invalid, "the report is about %s, which is no domain here", got.Domain)
	}
	wanted := 0
	for _, a := range to {
		for _, domain := range []string{got.Domain, a.Domain} {
			if at, ok := b.opt.Asked(ctx, got.Kind, domain); ok && !at.IsZero() && ascii(at).Folded() == ascii(a).Folded() {
				wanted++
				break
			}
		}
	}
	if wanted == 0 {
		return false, fault.Newf(fault.Invalid, "the report is about %s, and nobody asks for it at this address", got.Domain)
	}
	err = b.store(ctx, got, home) // cuts what is too long
	return err == nil && wanted == len(to) && got.Verified && got.More == 0, err
}

// home is the domain here that a report is about, itself or a name below it. The names that
// strangers can think of are without end; the domains here, to which they count, are not.
func (b *Book) home(ctx context.Context, got *Received) (string, bool) {
	name := got.Domain
	for range maxBelow {
		if _, ok := b.opt.Asked(ctx, got.Kind, name); ok {
			return name, true
		}
		if _, name, _ = strings.Cut(name, "."); name == "" {
			break
		}
	}
	return "", false
}

// fileOwn keeps a report of ours that is asked for at an address here.
func (b *Book) fileOwn(ctx context.Context, f *file) error {
	got, err := parse(ctx, bytes.NewReader(f.plain), whole)
	if err != nil {
		return fault.Wrap(fault.Internal, fmt.Sprintf("our own report about %s cannot be read", f.domain), err)
	}
	got.Domain, got.Reporter, got.Verified, got.Arrived = f.domain, f.from.Domain, true, b.opt.Now()
	home, ok := b.home(ctx, got)
	if !ok { // others may ask for reports at an address here
		home = f.from.Domain
	}
	return b.store(ctx, got, home)
}

// cut bounds a domain that a stranger claims.
func cut(s string) string { return strings.ToLower(clip(s)) }
