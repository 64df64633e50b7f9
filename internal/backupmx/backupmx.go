// Package backupmx says whom a backup mail host takes mail for: recipients of domains whose
// own host is another one, and who are known to exist there, from a list or because that
// host has said so.
//
// A backup that takes mail for everybody is where spam goes in, and has to send reports to
// forged senders later. So who is not known is refused, and who cannot be known while the
// other host is down is asked to come again.
//
// The package sends nothing: the queue keeps what is taken, and package send takes it to
// hosts that DNS prefers to this one and to no other (RFC 5321, 5.1).
package backupmx

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Domain is one that this host is a backup of.
type Domain struct {
	Name string
	// List returns the addresses that exist, one on a line: local@domain, or @domain for
	// all of it; lines that begin with # say nothing. nil: the other host is asked.
	List func() ([]byte, error)
}

// Options of New. Probe and Now must be given.
type Options struct {
	Domains []Domain
	// Probe asks the domain's own host whether it would take mail for an address, as RCPT
	// does. code is the answer's: 2xx, 4xx or 5xx, which must be about the address alone.
	Probe func(ctx context.Context, to mail.Address) (code int, text string)
	Now   func() time.Time
}

// Times for which an answer counts.
const (
	yesFor = 7 * 24 * time.Hour // also while the other host is down
	askFor = 24 * time.Hour     // without asking again
	noFor  = time.Hour
)

// maxKnown bounds the answers that are remembered; when there are more, all are forgotten.
const maxKnown = 50_000

// Backup knows the recipients. It may be used by many goroutines.
type Backup struct {
	opt     Options
	domains map[string]Domain

	mu    sync.Mutex
	known map[mail.Address]answer
}

type answer struct {
	at   time.Time
	no   bool
	text string
}

// New returns a Backup.
func New(opt Options) *Backup {
	b := &Backup{opt: opt, domains: map[string]Domain{}, known: map[mail.Address]answer{}}
	for _, d := range opt.Domains {
		b.domains[strings.ToLower(d.Name)] = d
	}
	return b
}

// Takes tells whether this host is a backup of the recipient's domain. If it is, err is nil
// if the recipient is known, of kind NotFound if it is known not to be, else temporary.
func (b *Backup) Takes(ctx context.Context, to mail.Address) (backup bool, err error) {
	d, ok := b.domains[strings.ToLower(to.Domain)]
	if !ok {
		return false, nil
	}
	if d.List != nil {
		return true, listed(d, to)
	}
	return true, b.ask(ctx, to)
}

func listed(d Domain, to mail.Address) error {
	text, err := d.List()
	if err != nil {
		return fault.Wrap(fault.Unavailable, "the recipients of "+d.Name+" cannot be looked up now", err)
	}
	want := to.Folded()
	for line := range bytes.Lines(text) {
		entry := strings.ToLower(strings.TrimSpace(string(line)))
		if entry == "@"+want.Domain || entry == want.String() {
			return nil
		}
	}
	return fault.Newf(fault.NotFound, "there is no %s at %s", to.Local, to.Domain)
}

// ask finds out from the domain's own host.
func (b *Backup) ask(ctx context.Context, to mail.Address) error {
	key := to.Folded()
	now := b.opt.Now()
	b.mu.Lock()
	was, known := b.known[key]
	b.mu.Unlock()
	age := now.Sub(was.at).Abs()
	switch {
	case known && was.no && age < noFor:
		return fault.Newf(fault.NotFound, "the host of %s says: %s", to.Domain, was.text)
	case known && !was.no && age < askFor:
		return nil
	}
	code, text := b.opt.Probe(ctx, to)
	switch code / 100 {
	case 2:
		b.note(key, answer{at: now})
		return nil
	case 5:
		b.note(key, answer{at: now, no: true, text: text})
		return fault.Newf(fault.NotFound, "the host of %s says: %s", to.Domain, text)
	}
	if known && !was.no && age < yesFor {
		return nil
	}
	return fault.Newf(fault.Busy, "whether %s exists cannot be found out now; try again later", to)
}

func (b *Backup) note(key mail.Address, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known) >= maxKnown {
		clear(b.known)
	}
	b.known[key] = a
}
