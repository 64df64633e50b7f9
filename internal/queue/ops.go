package queue

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
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

func notQueued(id ID) error {
	return fault.Newf(fault.NotFound, "no message %s is in the queue", id)
}

// details reads what there is to show of a message.
func (q *Queue) details(l look, m *message) (Details, error) {
	now := q.now()
	d := Details{Peer: m.env.Peer, EnvID: m.env.EnvID, Info: Info{
		ID: m.id, From: m.env.From, Login: m.env.Login, Priority: m.env.Priority, Release: m.env.ReleaseAt, Deadline: m.env.By.At, Size: m.size, Held: m.heldAt != 0,
		Created: time.UnixMilli(m.created), Expires: time.UnixMilli(m.expires),
	}}
	type view struct {
		next   int64
		reason string
	}
	views := make([]view, m.groups)
	var reasons []string
	for n := range m.groups {
		g, err := l.group(m.id, n)
		if err != nil {
			return d, err
		}
		d.Attempts = max(d.Attempts, g.attempts)
		if g.waiting == 0 {
			continue
		}
		rec, _, err := l.lane(g.lane)
		if err != nil {
			return d, err
		}
		q.mu.Lock()
		flying := q.flying[flight{m.id, n}]
		q.mu.Unlock()
		d.Sending = d.Sending || flying
		v := view{g.next, why(g, rec, m, flying, now)}
		if rec != nil {
			v.next = max(v.next, rec.notBefore)
		}
		views[n] = v
		if at := time.UnixMilli(v.next); !d.Held && (d.Next.IsZero() || at.Before(d.Next)) {
			d.Next = at
		}
		if m.groups > 1 {
			v.reason = domainOf(g.lane) + ": " + v.reason
		}
		if len(reasons) < 5 { // Show has them all
			reasons = append(reasons, v.reason)
		}
	}
	d.Reason = strings.Join(reasons, " | ")
	d.State = m.state(d.Sending, now)
	err := l.eachRecipient(m, func(_ int, r *recipient) {
		i := RecipientInfo{Address: r.Address, State: [...]string{"waiting", "delivered", "failed"}[r.state%3], TLS: r.result.TLS, Line: r.result.Line}
		if r.at != 0 {
			i.At = time.UnixMilli(r.at)
			i.Reason = sentence(r.result)
		}
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

// change runs fn on one message, in whichever part it lies. Faults: NotFound.
func (q *Queue) change(ctx context.Context, id ID, fn func(t tx, m *message) error) error {
	return q.at(ctx, id, func(p *Queue) error { return p.changeHere(ctx, id, fn) })
}

func (q *Queue) changeHere(ctx context.Context, id ID, fn func(t tx, m *message) error) error {
	return q.update(ctx, func(t tx) error {
		m, ok, err := t.message(id)
		if err != nil {
			return err
		}
		if !ok || m.open == 0 {
			return notQueued(id)
		}
		return fn(t, m)
	})
}

// Retry makes a message due now, and ends the pause of where it goes. One that is
// held stays so. Faults: NotFound.
func (q *Queue) Retry(ctx context.Context, id ID) error {
	now := q.now()
	return q.change(ctx, id, func(t tx, m *message) error {
		if m.heldAt != 0 {
			return fault.Newf(fault.Invalid, "message %s is held; release it first", id)
		}
		return t.hurry(m, now)
	})
}

// hurry makes all groups of a message due at a time.
func (t tx) hurry(m *message, at int64) error {
	at, err := t.soon(at)
	if err != nil {
		return err
	}
	for n := range m.groups {
		g, err := t.look().group(m.id, n)
		if err != nil {
			return err
		}
		if g.waiting == 0 {
			continue
		}
		old := *g
		g.next = min(g.next, max(at, m.release()))
		if err := t.relist(m, n, true, &old, g); err != nil {
			return err
		}
		t.b.dest(destOf(g.lane)).change(resume)
	}
	return nil
}

// resume ends a lane's pause.
func resume(l *lane) { l.fails, l.notBefore, l.reason = 0, 0, "" }

// RetryAll makes every message due now but those that are held, and returns how
// many. It works through the queue in steps; a crash leaves the rest as it was.
func (q *Queue) RetryAll(ctx context.Context) (count int, err error) {
	parts, err := q.all(ctx)
	for _, p := range parts {
		if err == nil {
			n := 0
			n, err = p.retryAll(ctx)
			count += n
		}
	}
	return count, err
}

func (q *Queue) retryAll(ctx context.Context) (count int, err error) {
	from := []byte{famMessage}
	for from != nil {
		var batch []ID
		groups := 0
		next, err := q.messages(ctx, from, func(_ look, m *message) error {
			if m.open > 0 && m.heldAt == 0 {
				batch = append(batch, m.id)
				groups += m.groups
			}
			return nil
		})
		if err != nil {
			return count, err
		}
		step := len(batch)
		if groups > 2000 { // keep an Update small
			step = 1
		}
		for len(batch) > 0 {
			n, err := q.hurryAll(ctx, batch[:min(step, len(batch))])
			if err != nil {
				return count, err
			}
			count += n
			batch = batch[min(step, len(batch)):]
		}
		from = next
	}
	return count, nil
}

func (q *Queue) hurryAll(ctx context.Context, ids []ID) (done int, err error) {
	now := q.now()
	err = q.update(ctx, func(t tx) error {
		done = 0
		for _, id := range ids {
			m, ok, err := t.message(id)
			if err != nil {
				return err
			}
			if !ok || m.open == 0 || m.heldAt != 0 {
				continue
			}
			if err := t.hurry(m, now); err != nil {
				return err
			}
			done++
		}
		return nil
	})
	return done, err
}

func (q *Queue) hold(ctx context.Context, id ID) error {
	now := q.now()
	return q.change(ctx, id, func(t tx, m *message) error {
		if m.heldAt != 0 {
			return nil
		}
		err := t.eachGroup(m, func(n int, g *group) error { return t.unlist(id, n, g) })
		if err != nil {
			return err
		}
		m.heldAt = max(now, 1)
		if err := t.setAlarm(alarmExpiry, id, m.expiryAt, 0); err != nil {
			return err
		}
		m.expiryAt = 0
		t.count(0, 1)
		return t.putMessage(m)
	})
}

func (q *Queue) release(ctx context.Context, id ID) error {
	now := q.now()
	return q.change(ctx, id, func(t tx, m *message) error {
		if m.heldAt == 0 {
			return nil
		}
		m.expires += max(0, now-m.heldAt)
		m.heldAt = 0
		due, err := t.soon(now)
		if err != nil {
			return err
		}
		err = t.eachGroup(m, func(n int, g *group) error {
			g.next = max(due, m.release())
			if err := t.putGroup(id, n, g); err != nil {
				return err
			}
			return t.list(id, n, g)
		})
		if err != nil {
			return err
		}
		if err := t.setAlarm(alarmExpiry, id, m.expiryAt, m.expires); err != nil {
			return err
		}
		m.expiryAt = m.expires
		t.count(0, -1)
		return t.putMessage(m)
	})
}

// eachGroup calls fn for the groups that wait.
func (t tx) eachGroup(m *message, fn func(n int, g *group) error) error {
	for n := range m.groups {
		g, err := t.look().group(m.id, n)
		if err != nil {
			return err
		}
		if g.waiting == 0 {
			continue
		}
		if err := fn(n, g); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) drop(ctx context.Context, id ID, bounce bool) error {
	now := q.now()
	return q.change(ctx, id, func(t tx, m *message) error {
		if !bounce {
			return t.remove(m)
		}
		closed := map[int]int{}
		err := t.each(m, func(_ int, r *recipient) bool {
			r.state = failed
			r.result = Result{Code: 554, Enhanced: "5.3.0", Text: "the administrator of the mail server removed the message from its queue"}
			r.at = now
			m.owe(r, owedFailure)
			m.open--
			closed[r.group]++
			return true
		})
		if err != nil {
			return err
		}
		if err := t.closeGroups(m, closed); err != nil {
			return err
		}
		if m.heldAt != 0 {
			m.heldAt = 0
			t.count(0, -1)
		}
		return t.finish(m, now)
	})
}

// blobs is Blobs of one part.
func (q *Queue) blobs(ctx context.Context, yield func(mail.BlobRef)) error {
	from := []byte{famMessage}
	for from != nil {
		next, err := q.messages(ctx, from, func(_ look, m *message) error {
			yield(m.blob)
			return nil
		})
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}
