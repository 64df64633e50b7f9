package receive

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/authres"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/turn"
)

// Observation is what was found of a message from outside, and what was done about it: all
// that reports to its author's domain need.
type Observation struct {
	At          time.Time
	Verdict     *check.Verdict // with the host and the envelope
	Message     *store.Parcel  // as it came
	Rulings     []Ruling       // one for each domain of recipients
	Disposition check.Disposition
}

// Ruling is what the policy of one domain here made of it.
type Ruling struct {
	Domain string
	Policy check.Policy
	check.Decision
}

// findings are what checks have to say to the road.
type findings struct {
	junk            []bool // by recipient; nil: none
	verdict, action string // for the story of the message
	found           *Assessment
	stays           bool   // a forgery, as was found out before it waited in the queue
	unheard         []bool // by recipient, of whom the client hears nothing; nil: of all he does
}

// FromOutside is Deliver for a message from a host that nobody vouches for. It is checked as
// it came; then Authentication-Results fields that bear our names are taken out of it, and
// ours is put in front, above received, the field that tells of the way here (RFC 8601, 4).
//
// There is one answer for all recipients: the message is refused if the policies of all their
// domains refuse it. Otherwise those whose policy is stricter than to deliver it have it in
// Junk. Without Options.Checks it is Deliver.
func (r *Receiver) FromOutside(ctx context.Context, env mail.Envelope, msg *store.Parcel, received []byte) []Result {
	if r.opt.Checks == nil || circles(msg, r.opt.MaxReceived) {
		plain, err := withoutNUL(ctx, msg)
		if err != nil {
			return refused(env, Result{Err: err}).results()
		}
		return r.Deliver(ctx, env, plain.Prepend(received))
	}
	o := r.rule(ctx, env, r.inspect(ctx, env, msg))
	o.Message = msg
	env.To = reportable(env.To, o.Verdict)
	f := findings{junk: o.junk(env), verdict: o.Verdict.String(), action: o.action(), found: r.assessment(ctx, o)}
	if o.Disposition > check.None {
		r.opt.Log.Info("message checked", "id", env.ID, "outcome", o.Disposition.String(), "reason", f.action)
	}
	if o.Disposition == check.Reject {
		why := o.Rulings[0].Decision
		p := refused(env, Result{fault.New(fault.Denied, why.Text), why.Enhanced})
		r.note(env, p, msg, f)
		r.observed(o)
		return p.results()
	}
	if r.opt.Kept != nil && r.opt.Kept(ctx, o) {
		r.opt.Log.Info("message kept without a mailbox", "id", env.ID, "message_id", msg.Message().MessageID)
		r.observed(o)
		return make([]Result, len(env.To))
	}
	plain, err := withoutNUL(ctx, msg)
	if err != nil {
		return refused(env, Result{Err: err}).results()
	}
	if clean, ok := r.cleaned(ctx, plain); ok {
		plain = clean
	} else {
		o.Disposition = check.Junk
		f.junk = slices.Repeat([]bool{true}, len(env.To))
		f.note("junk: the header is too long to take out what only we may write")
	}
	results := r.filtered(ctx, env, plain, f, o.Verdict.Reverse.Name, func(env mail.Envelope, msg *store.Parcel, f findings) []Result {
		return r.take(ctx, env, msg.Prepend(received).Prepend(r.field(o)), f)
	})
	if slices.ContainsFunc(results, func(one Result) bool { return one.Err == nil || !fault.Of(one.Err).Temporary() }) {
		r.observed(o) // else it comes again
	}
	return results
}

// reportable leaves out what a stranger wants reports of success for, if the sender to whom they
// would go may be forged.
func reportable(to []mail.Recipient, v *check.Verdict) []mail.Recipient {
	if v.SenderProven() || !slices.ContainsFunc(to, func(t mail.Recipient) bool { return t.Notify&mail.NotifySuccess != 0 }) {
		return to
	}
	to = slices.Clone(to)
	for i := range to {
		if n := &to[i].Notify; *n&mail.NotifySuccess != 0 {
			if *n &^= mail.NotifySuccess; *n == mail.NotifyDefault {
				*n = mail.NotifyNever
			}
		}
	}
	return to
}

func (r *Receiver) observed(o Observation) {
	if r.opt.Observed != nil {
		r.opt.Observed(o)
	}
}

// withoutNUL is the message as mailboxes can have it. It is made after the checks: what
// is signed is what came.
func withoutNUL(ctx context.Context, msg *store.Parcel) (*store.Parcel, error) {
	encoded, err := msg.WithoutNUL(ctx)
	if fault.Is(err, fault.Unsupported) { // signed, say: better as it is than not at all
		return msg, nil
	}
	return encoded, passing(err)
}

// inspect checks the message. While it waits for others it leaves the processor to others.
func (r *Receiver) inspect(ctx context.Context, env mail.Envelope, msg *store.Parcel) *check.Verdict {
	mine := turn.Of(ctx)
	mine.Rest()
	defer mine.Resume()
	header := msg.Header()
	addr, _ := netip.ParseAddr(env.Peer)
	v := r.opt.Checks.Check(turn.With(ctx, nil), check.Peer{Addr: addr, Helo: env.Helo}, env, check.Message{
		Header: header, Cut: !store.WholeHeader(header),
		Body: func(ctx context.Context) (io.ReadCloser, error) { return msg.Open(ctx, int64(len(header)), -1) },
	})
	for _, f := range v.Faults {
		r.opt.Log.Error("a check failed", "id", env.ID, "err", f)
	}
	return v
}

// rule asks the policies of all domains of recipients.
func (r *Receiver) rule(ctx context.Context, env mail.Envelope, v *check.Verdict) Observation {
	o := Observation{At: r.opt.Now(), Verdict: v, Disposition: check.None}
	all := true // refuse it
	for _, to := range env.To {
		domain := strings.ToLower(to.Address.Domain)
		if o.of(domain) != nil {
			continue
		}
		p := r.policy(ctx, domain)
		d := r.opt.Checks.Decide(v, p)
		o.Rulings = append(o.Rulings, Ruling{domain, p, d})
		all = all && d.Disposition == check.Reject
		o.Disposition = max(o.Disposition, min(d.Disposition, check.Junk))
	}
	if all && len(o.Rulings) > 0 {
		o.Disposition = check.Reject
	}
	return o
}

// policy is that of a domain here. One that cannot be read must not stop mail.
func (r *Receiver) policy(ctx context.Context, domain string) check.Policy {
	s, err := r.opt.Directory.Settings(ctx, domain)
	switch {
	case err != nil:
		r.opt.Log.Warn("the settings of a domain cannot be read", "domain", domain, "err", err)
	case s.Forged != "":
		return check.Policy(s.Forged)
	}
	return r.opt.Forged
}

// of returns the ruling for a domain, or nil.
func (o *Observation) of(domain string) *Ruling {
	for i := range o.Rulings {
		if o.Rulings[i].Domain == domain {
			return &o.Rulings[i]
		}
	}
	return nil
}

// junk tells of each recipient whether he has it in Junk; nil: none has.
func (o *Observation) junk(env mail.Envelope) []bool {
	if o.Disposition < check.Junk {
		return nil
	}
	out := make([]bool, len(env.To))
	for i, to := range env.To {
		out[i] = o.of(strings.ToLower(to.Address.Domain)).Disposition >= check.Junk
	}
	return out
}

// action says what was done and why, in one line; "" if nothing is wrong.
func (o *Observation) action() string {
	worst := o.Rulings[0]
	for _, one := range o.Rulings[1:] {
		if one.Disposition > worst.Disposition {
			worst = one
		}
	}
	text := worst.Text
	if worst.Override != "" {
		text += " (" + worst.Override + ": " + worst.Comment + ")"
	}
	if text == "" {
		return ""
	}
	return o.Disposition.String() + ": " + text
}

// cleaned takes out fields that only we may write. ok is false if that cannot be done: what
// lies behind the part of a header that is looked at may hold some, too.
func (r *Receiver) cleaned(ctx context.Context, msg *store.Parcel) (clean *store.Parcel, ok bool) {
	asked := 0
	header, n := authres.Remove(msg.Header(), func(id string) bool { return r.isOurs(ctx, id, &asked) })
	if n == 0 {
		return msg, store.WholeHeader(header)
	}
	clean, ok = msg.WithHeader(bytes.Clone(header))
	r.opt.Log.Info("forged Authentication-Results", "fields", n, "removed", ok)
	return clean, ok
}

// Bounds of what a stranger's Authentication-Results can make us look up.
const (
	maxName      = 253 // bytes of a domain's name (RFC 1035, 2.3.4)
	maxQuestions = 1000
)

// isOurs tells whether a name is ours, or that of a host of a domain here. When it cannot be
// known, it is.
func (r *Receiver) isOurs(ctx context.Context, id string, asked *int) bool {
	ours, err := r.knownOurs(ctx, id, asked)
	return ours || err != nil
}

// knownOurs is isOurs where what cannot be known now is an error. What is too long for a name is ours,
// and so is what comes after too many questions, which asked counts for a whole message: it
// would be no other the next time.
func (r *Receiver) knownOurs(ctx context.Context, id string, asked *int) (bool, error) {
	if len(id) > maxName || strings.EqualFold(id, r.opt.AuthservID) {
		return true, nil
	}
	for {
		if *asked++; *asked > maxQuestions {
			return true, nil
		}
		local, err := r.opt.Directory.IsLocal(ctx, id)
		if local || err != nil {
			return local, err
		}
		_, above, found := strings.Cut(id, ".")
		if !found {
			return false, nil
		}
		id = above
	}
}

// field is our Authentication-Results. Where nobody wants more than to count, nobody has it.
func (r *Receiver) field(o Observation) []byte {
	for _, one := range o.Rulings {
		if one.Policy != check.PolicyReport {
			return o.Verdict.Field(r.opt.AuthservID)
		}
	}
	return nil
}
