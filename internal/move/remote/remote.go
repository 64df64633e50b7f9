package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// Options of a target. All but Tell must be given.
type Options struct {
	HTTP    *http.Client
	Path    string                                // of the account: /v1/accounts/ADDRESS
	Failure func(status int, answer []byte) error // what an answer that is no 200 says
	Line    func(line []byte) error               // the error that a line is, nil if it is none
	Wait    func(ctx context.Context, d time.Duration) error
	Tell    func(why string) // a call is made again
}

// Target is an account of a server.
type Target struct{ o Options }

var (
	_ move.Target = (*Target)(nil)
	_ move.Prover = (*Target)(nil)
)

// New returns an account, which is asked for nothing yet.
func New(o Options) *Target { return &Target{o} }

// How long calls are made again: after a quarter of a second, a half, and so on.
const (
	firstWait   = 250 * time.Millisecond
	longestWait = 10 * time.Second
	mostTries   = 36 // about five minutes
)

// body is what a request is given: again for each attempt.
type body func() (r io.ReadCloser, size int64, err error)

func asJSON(v any) body {
	return func() (io.ReadCloser, int64, error) {
		b, err := json.Marshal(v)
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), err
	}
}

// call makes a call, again if need be. begin forgets what the lines of an attempt have said.
func (t *Target) call(ctx context.Context, method, what string, q url.Values, in body, begin func(), line func([]byte) error) error {
	wait := firstWait
	for try := 1; ; try++ {
		if begin != nil {
			begin()
		}
		err := t.once(ctx, method, what, q, in, line)
		if err == nil || ctx.Err() != nil || !passes(err) || try == mostTries {
			return err
		}
		if t.o.Tell != nil {
			t.o.Tell(fault.Say(err))
		}
		if err := t.o.Wait(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, longestWait)
	}
}

// passes tells whether a call may succeed another time.
func passes(err error) bool {
	switch fault.Of(err) {
	case fault.Unavailable, fault.Unknown, fault.Closed, fault.Busy:
		return true
	}
	return false
}

func (t *Target) once(ctx context.Context, method, what string, q url.Values, in body, line func([]byte) error) error {
	path := t.o.Path + "/move" + what
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://martlet"+path, nil)
	if err != nil {
		return err
	}
	if in != nil {
		if req.Body, req.ContentLength, err = in(); err != nil {
			return err
		}
	}
	resp, err := t.o.HTTP.Do(req)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "the server does not answer", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return t.o.Failure(resp.StatusCode, answer)
	}
	d := json.NewDecoder(resp.Body)
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); err == io.EOF {
			return nil
		} else if err != nil {
			return fault.Wrap(fault.Unavailable, "the server's answer was cut short", err)
		}
		if err := t.o.Line(raw); err != nil {
			return err
		}
		if line != nil {
			if err := line(raw); err != nil {
				return err
			}
		}
	}
}

// one makes a call whose answer is one object.
func (t *Target) one(ctx context.Context, method, what string, q url.Values, in body, out any) error {
	n := 0
	err := t.call(ctx, method, what, q, in, func() { n = 0 }, func(b []byte) error {
		n++
		if out == nil {
			return nil
		}
		return json.Unmarshal(b, out)
	})
	if err == nil && out != nil && n != 1 {
		err = short()
	}
	return err
}

func short() error { return fault.New(fault.Internal, "the server's answer is not complete") }

// MaxMessage returns how many bytes a message may have.
func (t *Target) MaxMessage(ctx context.Context) (int64, error) {
	var a Account
	err := t.one(ctx, "GET", "", nil, nil, &a)
	return a.MaxMessage, err
}

// Mailboxes lists the account's mailboxes.
func (t *Target) Mailboxes(ctx context.Context) (list []move.Place, err error) {
	err = t.call(ctx, "GET", "/mailboxes", nil, nil, func() { list = nil }, func(b []byte) error {
		var p move.Place
		err := json.Unmarshal(b, &p)
		list = append(list, p)
		return err
	})
	return list, err
}

// Open returns the mailbox that one of a source goes into.
func (t *Target) Open(ctx context.Context, source string, m move.Mailbox) (move.Place, bool, error) {
	var o Opened
	err := t.one(ctx, "POST", "/open", Query(move.Box{Source: source, Mailbox: m.Source}), asJSON(m), &o)
	return o.At, o.Kept, err
}

// Ties returns the ties of keys.
func (t *Target) Ties(ctx context.Context, box move.Box, keys []string) ([]*move.Tie, error) {
	looked, err := t.look(ctx, box, keys, false)
	list := make([]*move.Tie, len(looked))
	for i := range looked {
		list[i] = looked[i].Tie
	}
	return list, err
}

// Look tells how the messages of some ties are now.
func (t *Target) Look(ctx context.Context, box move.Box, keys []string) ([]move.Looked, error) {
	return t.look(ctx, box, keys, true)
}

func (t *Target) look(ctx context.Context, box move.Box, keys []string, look bool) (list []move.Looked, err error) {
	for from := 0; from < len(keys); from += MaxKeys {
		part := keys[from:min(from+MaxKeys, len(keys))]
		in := Keys{Look: look}
		for _, k := range part {
			in.Keys = append(in.Keys, []byte(k))
		}
		err := t.call(ctx, "POST", "/ties", proving(ctx, Query(box)), asJSON(in), func() { list = list[:from] }, func(b []byte) error {
			var l Looked
			err := json.Unmarshal(b, &l)
			list = append(list, l.move())
			return err
		})
		if err == nil && len(list) != from+len(part) {
			err = short()
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

func proving(ctx context.Context, q url.Values) url.Values {
	if move.IsProving(ctx) {
		q.Set("proving", "yes")
	}
	return q
}

// EachTie goes through the ties of a mailbox of a source.
func (t *Target) EachTie(ctx context.Context, box move.Box, fn func(move.Tie, *move.Now) error) error {
	q := proving(ctx, Query(box))
	for {
		var list []move.Looked
		err := t.call(ctx, "GET", "/ties", q, nil, func() { list = nil }, func(b []byte) error {
			var l Looked
			err := json.Unmarshal(b, &l)
			if m := l.move(); m.Tie != nil {
				list = append(list, m)
			}
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		for _, l := range list {
			if err := fn(*l.Tie, l.Now); err != nil {
				return err
			}
		}
		q.Set("behind", list[len(list)-1].Tie.Key)
	}
}

// Former returns the next ties behind a key that are of another UIDVALIDITY.
func (t *Target) Former(ctx context.Context, box move.Box, now, behind string) (list []move.TiedContent, err error) {
	q := Query(box)
	q.Set("now", now)
	q.Set("behind", behind)
	err = t.call(ctx, "GET", "/former", q, nil, func() { list = nil }, func(b []byte) error {
		var f Former
		err := json.Unmarshal(b, &f)
		list = append(list, move.TiedContent{Key: string(f.Key), Content: content(f.Content)})
		return err
	})
	return list, err
}

// Put appends messages.
func (t *Target) Put(ctx context.Context, box move.Box, at mail.MailboxID, list []move.Incoming) (out []move.Outcome, err error) {
	f := frames{list: list}
	if err := f.begin(); err != nil {
		return nil, err
	}
	err = t.call(ctx, "POST", "/put", PutQuery(box, at), f.body, func() { out = out[:0] }, func(b []byte) error {
		var o Outcome
		err := json.Unmarshal(b, &o)
		out = append(out, o.move())
		return err
	})
	if err == nil && len(out) != len(list) {
		err = short()
	}
	return out, err
}

// Change makes the account follow changes at the source.
func (t *Target) Change(ctx context.Context, box move.Box, list []move.Change) error {
	const most = 500
	for from := 0; from < len(list); from += most {
		var in []Change
		for _, c := range list[from:min(from+most, len(list))] {
			in = append(in, Change{[]byte(c.Key), c.Flags, c.Keywords, c.Gone, c.MoveTo, []byte(c.NewKey)})
		}
		if err := t.one(ctx, "POST", "/change", Query(box), asJSON(in), nil); err != nil {
			return err
		}
	}
	return nil
}

// State returns what SetState kept.
func (t *Target) State(ctx context.Context, box move.Box) ([]byte, error) {
	var s State
	err := t.one(ctx, "GET", "/state", Query(box), nil, &s)
	return s.State, err
}

// SetState keeps something of a mailbox of a source.
func (t *Target) SetState(ctx context.Context, box move.Box, state []byte) error {
	return t.one(ctx, "PUT", "/state", Query(box), asJSON(State{state}), nil)
}

// Sources returns what was ever brought from.
func (t *Target) Sources(ctx context.Context) (list []move.Brought, err error) {
	err = t.call(ctx, "GET", "/sources", nil, nil, func() { list = nil }, func(b []byte) error {
		var s Brought
		err := json.Unmarshal(b, &s)
		list = append(list, move.Brought{Box: move.Box{Source: string(s.Source), Mailbox: string(s.Mailbox)}, At: s.At})
		return err
	})
	return list, err
}

// Forget forgets what was brought from a source, or from one of its mailboxes.
func (t *Target) Forget(ctx context.Context, source, mailbox string) error {
	return t.one(ctx, "DELETE", "/sources", Query(move.Box{Source: source, Mailbox: mailbox}), nil, nil)
}

// PageQuery reads what EachTie asks for.
func PageQuery(q url.Values) (box move.Box, behind string, prove bool) {
	return BoxOf(q), q.Get("behind"), q.Get("proving") == "yes"
}

// At reads the mailbox of PutQuery. Faults: Invalid.
func At(q url.Values) (mail.MailboxID, error) {
	n, err := strconv.ParseUint(q.Get("at"), 10, 64)
	if err != nil || n == 0 {
		return 0, fault.Newf(fault.Invalid, "%q is no mailbox", q.Get("at"))
	}
	return mail.MailboxID(n), nil
}
