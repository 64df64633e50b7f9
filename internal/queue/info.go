package queue

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Info is a message in the queue as lists show it.
type Info struct {
	ID       ID
	From     mail.Address
	To       []mail.Address // who still waits
	Size     int64
	Created  time.Time
	Expires  time.Time
	State    string // "waiting", "sending", "held" or "scheduled"
	Login    string // account that sent it, "" for none
	Priority int
	Release  time.Time // when it may be tried first; zero: at once
	Deadline time.Time // by which it is to be delivered; zero: none
	Attempts int       // of the group that was tried most
	Next     time.Time // next attempt; zero if held
	Held     bool
	Sending  bool   // an attempt is under way
	Reason   string // why it waits and what comes next, in words
}

// Details is a message with all its recipients.
type Details struct {
	Info
	Peer, EnvID string
	Recipients  []RecipientInfo
}

// RecipientInfo is what is known of one recipient.
type RecipientInfo struct {
	Address mail.Address
	State   string // waiting, delivered, failed
	Reason  string // what was said last, and for one that waits what comes next
	At      time.Time
	Next    time.Time
	TLS     string
	Line    mail.Line // the same for programs
}

// Filter chooses messages; zero fields choose all.
type Filter struct {
	Domain    string // of a recipient that waits
	Sender    string // part of the sender's address
	Recipient string // part of the address of a recipient that waits
	Held      bool   // only messages that are held
	Scheduled bool   // only messages that are not to be released yet
	Login     string // only messages that this account sent
}

// match tells whether a message is chosen. Letters compare without case.
func (f Filter) match(i Info) bool {
	if f.Held && !i.Held || f.Scheduled && i.State != "scheduled" || !contains(i.From.String(), f.Sender) {
		return false
	}
	if f.Login != "" && !strings.EqualFold(f.Login, i.Login) {
		return false
	}
	if f.Domain == "" && f.Recipient == "" {
		return true
	}
	for _, a := range i.To {
		if (f.Domain == "" || strings.EqualFold(a.Domain, f.Domain)) && contains(a.String(), f.Recipient) {
			return true
		}
	}
	return false
}

func contains(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

// listBatch is how many messages one look reads.
const listBatch = 100

// messages calls fn for some messages from a key on, in one View, and returns the
// key to go on at; nil at the end.
func (q *Queue) messages(ctx context.Context, from []byte, fn func(look, *message) error) (next []byte, err error) {
	err = q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		next = nil
		var found []*message
		var bad error
		err := r.Scan(from, []byte{famMessage + 1}, false, func(k, v []byte) bool {
			if len(found) == listBatch {
				next = append([]byte(nil), k...)
				return false
			}
			var m *message
			if m, bad = decodeMessage(ID(engine.Num(k, 0)), v); bad == nil {
				found = append(found, m)
			}
			return bad == nil
		})
		if err == nil {
			err = bad
		}
		for _, m := range found {
			if err == nil {
				err = fn(look{r}, m)
			}
		}
		return err
	})
	return next, err
}

// Counts says how much is in the queue.
type Counts struct {
	Messages int // with those that are done but for a report
	Held     int // of these
	Sending  int // attempts under way
}

// Count returns the counts; it is cheap. Attempts of other nodes are not among them.
func (q *Queue) Count(ctx context.Context) (sum Counts, err error) {
	parts, err := q.all(ctx)
	for _, p := range parts {
		c, failed := p.count(ctx)
		sum.Messages, sum.Held, sum.Sending = sum.Messages+c.Messages, sum.Held+c.Held, sum.Sending+c.Sending
		err = cmp.Or(err, failed)
	}
	return sum, err
}

func (q *Queue) count(ctx context.Context) (Counts, error) {
	var c counts
	err := q.eng.View(ctx, q.shard, func(r engine.Reader) (err error) {
		c, err = look{r}.counts()
		return err
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	return Counts{c.messages, c.held, len(q.flying)}, err
}

// Show returns everything about one message. Faults: NotFound.
func (q *Queue) Show(ctx context.Context, id ID) (d Details, err error) {
	err = q.at(ctx, id, func(p *Queue) (err error) { d, err = p.show(ctx, id); return err })
	return d, err
}

func (q *Queue) show(ctx context.Context, id ID) (d Details, err error) {
	err = q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		l := look{r}
		m, ok, err := l.message(id)
		if err != nil {
			return err
		}
		if !ok {
			return notQueued(id)
		}
		d, err = q.details(l, m)
		return err
	})
	return d, err
}

// details reads what there is to show of a message.
func (q *Queue) details(l look, m *message) (Details, error) {
	now := q.now()
	d := Details{Peer: m.env.Peer, EnvID: m.env.EnvID, Info: Info{
		ID: m.id, From: m.env.From, Login: m.env.Login, Priority: m.env.Priority, Release: m.env.ReleaseAt, Deadline: m.env.By.At, Size: m.size, Held: m.heldAt != 0,
		Created: time.UnixMilli(m.created), Expires: time.UnixMilli(m.expires),
	}}
	views, err := q.views(l, m, &d.Info, now)
	if err != nil {
		return d, err
	}
	d.State = m.state(d.Sending, now)
	err = l.eachRecipient(m, func(_ int, r *recipient) {
		i := r.info()
		if r.state == waiting && r.group < len(views) {
			d.To = append(d.To, r.Address)
			i.Reason = views[r.group].reason
			if !d.Held {
				i.Next = time.UnixMilli(views[r.group].next)
			}
		}
		d.Recipients = append(d.Recipients, i)
	})
	return d, err
}

// groupView is what is shown of a group that waits.
type groupView struct {
	next   int64
	reason string
	flying bool
}

// views reads what there is to show of each group, and sums it up in i.
func (q *Queue) views(l look, m *message, i *Info, now int64) ([]groupView, error) {
	views := make([]groupView, m.groups)
	var reasons []string
	for n := range m.groups {
		g, err := l.group(m.id, n)
		if err != nil {
			return nil, err
		}
		i.Attempts = max(i.Attempts, g.attempts)
		if g.waiting == 0 {
			continue
		}
		v, err := q.view(l, m, n, g, now)
		if err != nil {
			return nil, err
		}
		views[n] = v
		i.Sending = i.Sending || v.flying
		if at := time.UnixMilli(v.next); !i.Held && (i.Next.IsZero() || at.Before(i.Next)) {
			i.Next = at
		}
		if m.groups > 1 {
			v.reason = domainOf(g.lane) + ": " + v.reason
		}
		if len(reasons) < 5 { // Show has them all
			reasons = append(reasons, v.reason)
		}
	}
	i.Reason = strings.Join(reasons, " | ")
	return views, nil
}

func (q *Queue) view(l look, m *message, n int, g *group, now int64) (groupView, error) {
	rec, _, err := l.lane(g.lane)
	if err != nil {
		return groupView{}, err
	}
	q.mu.Lock()
	flying := q.flying[flight{m.id, n}]
	q.mu.Unlock()
	v := groupView{g.next, why(g, rec, m, flying, now), flying}
	if rec != nil {
		v.next = max(v.next, rec.notBefore)
	}
	return v, nil
}

// info is what the record of a recipient alone says.
func (r *recipient) info() RecipientInfo {
	i := RecipientInfo{Address: r.Address, State: [...]string{"waiting", "delivered", "failed"}[r.state%3], TLS: r.result.TLS, Line: r.result.Line}
	if r.at != 0 {
		i.At = time.UnixMilli(r.at)
		i.Reason = sentence(r.result)
	}
	return i
}

// state is how a message stands, in a word.
func (m *message) state(sending bool, now int64) string {
	switch {
	case m.heldAt != 0:
		return "held"
	case sending:
		return "sending"
	case m.release() > now:
		return "scheduled"
	}
	return "waiting"
}
