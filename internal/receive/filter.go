package receive

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/milter"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/turn"
)

// Filter is an outside program that looks at mail.
type Filter struct {
	*milter.Filter
	Outside, Submitted, LMTP bool // at which mail: of other hosts, of people, of LMTP
	PassWithout              bool // mail passes while the program does not answer
}

// looksAt tells whether a filter is for a message.
func (f *Filter) looksAt(env *mail.Envelope) bool {
	switch {
	case env.Login != "":
		return f.Submitted
	case isLMTP(env.Protocol):
		return f.LMTP
	}
	return f.Outside && env.Protocol != "" // what is made here has none
}

// filtered has all filters look at a message, one after the other, and then goes on with what
// they have made of it. reverse is the client's name, if it leads back to it.
func (r *Receiver) filtered(ctx context.Context, env mail.Envelope, msg *store.Parcel, f findings, reverse string,
	goOn func(mail.Envelope, *store.Parcel, findings) []Result) []Result {
	to := env.To
	for i := range r.opt.Filters {
		one := &r.opt.Filters[i]
		if !one.looksAt(&env) {
			continue
		}
		end, err := r.ask(ctx, one, &env, &msg, &f, reverse)
		if err != nil {
			f.note(one.Name() + ": " + fault.Say(err.Err))
			p := refused(env, *err)
			r.note(env, p, msg, f)
			return inOrder(to, env.To, p.results())
		}
		if end { // thrown away: the sender is told nothing
			r.note(env, &plan{thrown: true}, msg, f)
			return make([]Result, len(to))
		}
	}
	f.unheard = unheard(to, env.To)
	return inOrder(to, env.To, goOn(env, msg, f))
}

// ask has one filter look. end tells that the message is thrown away.
func (r *Receiver) ask(ctx context.Context, one *Filter, env *mail.Envelope, msg **store.Parcel, f *findings, reverse string) (end bool, refusal *Result) {
	out, err := r.answer(ctx, one, *env, *msg, reverse)
	if err != nil {
		r.opt.Log.Error("a filter does not answer", "filter", one.Name(), "id", env.ID, "err", err, "mail passes", one.PassWithout)
		if one.PassWithout {
			return false, nil
		}
		return false, &Result{fault.New(fault.Limited, "a filter that is to look at your message does not answer; try again later"), "4.7.1"}
	}
	switch out.Verb {
	case milter.Reject:
		return false, &Result{fault.New(fault.Denied, out.Text), out.Enhanced}
	case milter.Retry:
		return false, &Result{fault.New(fault.Limited, out.Text), out.Enhanced}
	case milter.Discard:
		f.note(one.Name() + " throws it away")
		return true, nil
	case milter.Quarantine:
		f.note("junk: " + one.Name() + ": " + out.Text)
		f.junk = slices.Repeat([]bool{true}, len(env.To))
	}
	for _, i := range out.Refused { // there is one answer for all: they have it in Junk, as with checks
		if f.junk == nil {
			f.junk = make([]bool, len(env.To))
		}
		f.junk[i] = true
		f.note("junk for " + env.To[i].Address.String() + ": " + one.Name())
	}
	changed, err := r.changed(ctx, *msg, out)
	if err != nil {
		return false, &Result{Err: passing(err)}
	}
	*msg = changed
	readdress(env, f, out)
	return false, nil
}

// note adds to what is told of a message's way.
func (f *findings) note(text string) { f.action = strings.TrimPrefix(f.action+"; "+text, "; ") }

// answer asks the program, without a turn.
func (r *Receiver) answer(ctx context.Context, one *Filter, env mail.Envelope, msg *store.Parcel, reverse string) (milter.Outcome, error) {
	mine := turn.Of(ctx)
	mine.Rest()
	defer mine.Resume()
	header := msg.Header()
	return one.Ask(ctx, milter.Message{
		Envelope: env, Reverse: reverse, Header: bytes.TrimSuffix(header, []byte("\r\n")), Cut: !store.WholeHeader(header),
		Body: func(ctx context.Context) (io.ReadCloser, error) { return msg.Open(ctx, int64(len(header)), -1) },
	})
}

// changed is the message as a filter wants it. It is read anew: what is known of it may have
// changed with it.
func (r *Receiver) changed(ctx context.Context, msg *store.Parcel, out milter.Outcome) (*store.Parcel, error) {
	if out.Header == nil && out.Body == nil {
		if len(out.Front) > 0 {
			return msg.Prepend(out.Front), nil
		}
		return msg, nil
	}
	header, body := msg.Header(), io.Reader(bytes.NewReader(out.Body))
	if out.Body == nil {
		rest, err := msg.Open(ctx, int64(len(header)), -1)
		if err != nil {
			return nil, err
		}
		defer rest.Close()
		body = rest
	}
	if out.Header != nil {
		header = append(out.Header, "\r\n"...)
	}
	return r.opt.Store.Receive(ctx, io.MultiReader(bytes.NewReader(header), body))
}

// readdress changes the envelope as a filter wants it.
func readdress(env *mail.Envelope, f *findings, out milter.Outcome) {
	if out.From != nil {
		env.From = *out.From
	}
	if len(out.Add)+len(out.Remove) == 0 {
		return
	}
	var to []mail.Recipient
	var junk []bool
	for i, t := range env.To {
		gone := slices.ContainsFunc(out.Remove, func(a mail.Address) bool { return a.Folded() == t.Address.Folded() })
		if gone {
			continue
		}
		to = append(to, t)
		if f.junk != nil {
			junk = append(junk, f.junk[i])
		}
	}
	for _, a := range out.Add {
		to = append(to, mail.Recipient{Address: a, Notify: mail.NotifyNever})
		if f.junk != nil {
			junk = append(junk, out.Verb == milter.Quarantine)
		}
	}
	env.To, f.junk = to, junk
}

// unheard tells of each recipient whether inOrder gives his result to nobody: filters have added
// him, and taken nobody out. Nil: of none.
func unheard(asked, had []mail.Recipient) []bool {
	if slices.Equal(asked, had) {
		return nil
	}
	for _, t := range asked {
		if indexOf(had, t) < 0 {
			return nil
		}
	}
	var out []bool
	for i, h := range had {
		if indexOf(asked, h) < 0 {
			if out == nil {
				out = make([]bool, len(had))
			}
			out[i] = true
		}
	}
	return out
}

func indexOf(list []mail.Recipient, t mail.Recipient) int {
	return slices.IndexFunc(list, func(h mail.Recipient) bool { return h.Address == t.Address })
}

// inOrder gives each recipient of the client his result. Whom a filter has taken out has that of
// those it has added in his place: if one of them cannot be served, the client is to know.
func inOrder(asked, had []mail.Recipient, results []Result) []Result {
	if slices.Equal(asked, had) {
		return results
	}
	var instead Result
	for i, h := range had {
		if i >= len(results) || results[i].Err == nil || indexOf(asked, h) >= 0 {
			continue
		}
		if instead.Err == nil || fault.Of(results[i].Err).Temporary() {
			instead = results[i]
		}
	}
	out := make([]Result, len(asked))
	for i, t := range asked {
		if n := indexOf(had, t); n >= 0 && n < len(results) {
			out[i] = results[n]
		} else {
			out[i] = instead
		}
	}
	return out
}
