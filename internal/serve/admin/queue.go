package admin

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
)

// queueCalls are the calls about what is sent and what waits.
func (a *api) queueCalls() map[string]handler {
	return map[string]handler{
		"GET /v1/queue":                a.listQueue,
		"GET /v1/queue/{id}":           a.showQueued,
		"POST /v1/queue/{id}/{action}": a.changeQueued,
		"POST /v1/queue/{action}":      a.changeAllQueued,
		"GET /v1/sent":                 a.listSent,
		"GET /v1/bounced":              a.listBounced,
		"DELETE /v1/bounced":           a.forgive,
	}
}

type queueLine struct {
	ID       string     `json:"id"`
	From     string     `json:"from"` // "" for the null sender
	To       []string   `json:"to"`   // who still waits
	Attempts int        `json:"attempts"`
	Next     *time.Time `json:"next_attempt"` // null while it is held
	Reason   string     `json:"reason"`
	State    string     `json:"state"` // waiting, sending, held, scheduled
	Login    string     `json:"login,omitempty"`
	Priority int        `json:"priority,omitempty"`
	Release  *time.Time `json:"release,omitempty"`    // not to be tried before
	Deadline *time.Time `json:"deliver_by,omitempty"` // by which it is to be delivered
	Held     bool       `json:"held"`
	Sending  bool       `json:"sending"`
	Bytes    int64      `json:"bytes"`
	Created  time.Time  `json:"created"`
	Expires  time.Time  `json:"expires"`
}

func queueLineOf(i queue.Info) queueLine {
	return queueLine{
		ID: i.ID.String(), From: i.From.String(), To: texts(i.To), Attempts: i.Attempts, Next: timeOrNil(i.Next), Reason: i.Reason,
		State: i.State, Login: i.Login, Priority: i.Priority, Release: timeOrNil(i.Release), Deadline: timeOrNil(i.Deadline),
		Held: i.Held, Sending: i.Sending, Bytes: i.Size, Created: i.Created.UTC(), Expires: i.Expires.UTC(),
	}
}

func tlsLineOf(l mail.Line) *tlsLine {
	if l == (mail.Line{}) {
		return nil
	}
	return &tlsLine{l.Version, l.Cipher, string(l.Verified), string(l.Failure), l.Why}
}

func texts(addrs []mail.Address) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (a *api) listQueue(r *request) error {
	q := r.URL.Query()
	f := queue.Filter{Domain: q.Get("domain"), Sender: q.Get("sender"), Recipient: q.Get("recipient"), Held: q.Get("held") == "true",
		Scheduled: q.Get("scheduled") == "true", Login: q.Get("login")}
	var sendErr error
	err := a.Queue.List(r.ctx, f, func(i queue.Info) bool {
		sendErr = r.send(queueLineOf(i))
		return sendErr == nil
	})
	if err != nil {
		return err
	}
	return sendErr
}

type (
	queueAnswer struct {
		queueLine
		Peer       string          `json:"peer,omitempty"`
		EnvID      string          `json:"envid,omitempty"`
		Recipients []recipientLine `json:"recipients"`
	}
	recipientLine struct {
		Address string     `json:"address"`
		State   string     `json:"state"` // waiting, delivered, failed
		Reason  string     `json:"reason"`
		At      *time.Time `json:"at"` // of the last attempt
		Next    *time.Time `json:"next_attempt"`
		TLS     string     `json:"tls,omitempty"`
		Line    *tlsLine   `json:"tls_facts,omitempty"`
	}
	// tlsLine is what is known of the TLS of an attempt.
	tlsLine struct {
		Version  string `json:"version,omitempty"`
		Cipher   string `json:"cipher,omitempty"`
		Verified string `json:"verified,omitempty"` // opportunistic, dane, sts, pkix
		Failure  string `json:"failure,omitempty"`  // RFC 8460, 4.3
		Why      string `json:"why,omitempty"`
	}
)

func (a *api) showQueued(r *request) error {
	id, err := queue.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	d, err := a.Queue.Show(r.ctx, id)
	if err != nil {
		return err
	}
	out := queueAnswer{queueLine: queueLineOf(d.Info), Peer: d.Peer, EnvID: d.EnvID, Recipients: []recipientLine{}}
	for _, rc := range d.Recipients {
		out.Recipients = append(out.Recipients, recipientLine{rc.Address.String(), rc.State, rc.Reason, timeOrNil(rc.At), timeOrNil(rc.Next), rc.TLS, tlsLineOf(rc.Line)})
	}
	return r.send(out)
}

// act returns what an action does to one message.
func (a *api) act(r *request) (name string, act func(context.Context, queue.ID) error, err error) {
	name = r.PathValue("action")
	switch name {
	case "retry":
		return name, a.Queue.Retry, nil
	case "hold":
		return name, a.Queue.Hold, nil
	case "release":
		return name, a.Queue.Release, nil
	case "drop":
		report := r.URL.Query().Get("report") == "true"
		return name, func(ctx context.Context, id queue.ID) error { return a.Queue.Drop(ctx, id, report) }, nil
	}
	return name, nil, fault.Newf(fault.NotFound, "nothing in the queue can be told to %q", name)
}

func (a *api) changeQueued(r *request) error {
	name, act, err := a.act(r)
	if err != nil {
		return err
	}
	id, err := queue.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := act(r.ctx, id); err != nil {
		return err
	}
	return r.send(map[string]any{"id": id.String(), "action": name})
}

// changeAllQueued acts on every message there is now.
func (a *api) changeAllQueued(r *request) error {
	name, act, err := a.act(r)
	if err != nil {
		return err
	}
	count := 0
	if name == "retry" {
		count, err = a.Queue.RetryAll(r.ctx)
	} else {
		count, err = a.eachQueued(r.ctx, act)
	}
	if err != nil {
		return err
	}
	return r.send(map[string]any{"action": name, "count": count})
}

func (a *api) eachQueued(ctx context.Context, act func(context.Context, queue.ID) error) (count int, err error) {
	listErr := a.Queue.List(ctx, queue.Filter{}, func(i queue.Info) bool {
		err = act(ctx, i.ID)
		if fault.Is(err, fault.NotFound) {
			err = nil // delivered meanwhile
			return true
		}
		count++
		return err == nil
	})
	if err == nil {
		err = listErr
	}
	return count, err
}
