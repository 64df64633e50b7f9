package receive

import (
	"context"
	"strings"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/arc"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/srs"
	"github.com/martlet-mail/martlet/internal/store"
)

// Assessment is what was found out about a message as it came in, for those it is sent on to
// (RFC 8617, 4.1.1), and for whether it is sent on at all.
type Assessment struct {
	// Results is the value of its Authentication-Results field, the name of the service first.
	Results string
	Chain   arc.Result

	verdict *check.Verdict // nil: only the above is known
	here    bool           // an author is of a domain here, or below one
	unsure  error          // why that cannot be known now
}

// assessment is what those who get the message from here are told.
func (r *Receiver) assessment(ctx context.Context, o Observation) *Assessment {
	_, results, _ := strings.Cut(string(o.Verdict.Field(r.opt.AuthservID)), ":")
	a := &Assessment{Results: strings.TrimSpace(results), Chain: o.Verdict.ARC, verdict: o.Verdict}
	asked := 0
	for _, name := range o.Verdict.Authors {
		ours, err := r.knownOurs(ctx, name, &asked)
		if ours {
			a.here = true
			break
		}
		if err != nil {
			a.unsure = err
		}
	}
	return a
}

// forgedSender tells whether the sender of the envelope may be somebody else.
func (a *Assessment) forgedSender() bool {
	return a != nil && a.verdict != nil && !a.verdict.SenderProven()
}

// launders tells whether a message would pass DMARC elsewhere if a domain here sent it on, though
// nobody stands behind its author. An error says why that is not known now.
func (r *Receiver) launders(a *Assessment, via string) (bool, error) {
	switch {
	case a == nil || a.verdict == nil || a.verdict.AuthorProven():
		return false, nil
	case a.here || a.verdict.IsOfAuthor(via) || a.verdict.IsOfAuthor(r.opt.AuthservID):
		return true, nil
	}
	return false, a.unsure
}

// withheld says why a message is not sent on by a domain here to another host, if it must
// not be (docs/decisions/0030-forged-mail.md): with us as its sender what is forged would pass there, and
// what is junk would be ours. A reason that may go is temporary.
func (r *Receiver) withheld(f findings, junk bool, via string) Result {
	switch launders, err := r.launders(f.found, via); {
	case f.stays:
		return errForged
	case err != nil:
		return Result{fault.Wrap(fault.Limited, "whether your message may be sent on cannot be found out now; try again later", err), "4.7.1"}
	case !launders:
	case f.found.verdict.Unknown():
		return Result{fault.New(fault.Limited, "whether the author's domain stands behind your message cannot be found out now, and else it is not sent on; try again later"), "4.7.1"}
	default:
		return errForged
	}
	if junk {
		return Result{fault.New(fault.Denied, "your message is not sent on: it is taken for junk"), "5.7.1"}
	}
	return Result{}
}

var errForged = Result{fault.New(fault.Denied, "your message is not sent on: the author's domain does not stand behind it"), "5.7.1"}

// stays tells whether no alias may send on what waits for a recipient: when its time comes, nothing
// else is known of it any more.
func (r *Receiver) stays(env mail.Envelope, p *plan, to mail.Recipient, junk bool) bool {
	return r.withheld(findings{found: p.found, stays: env.Stays}, junk, to.Address.Domain).Err != nil
}

// bundle is the recipients elsewhere that get a message in one form: with one sender, sealed
// by one domain.
type bundle struct {
	via string // the domain here whose alias leads there; "": none does
	to  []*onward
}

// bundles sorts recipients by the domain that sends the message on.
func bundles(remote []*onward) (all []*bundle) {
	for _, o := range remote {
		i := 0
		for i < len(all) && all[i].via != o.via {
			i++
		}
		if i == len(all) {
			all = append(all, &bundle{via: o.via})
		}
		all[i].to = append(all[i].to, o)
	}
	return all
}

// sentOn returns sender and message as they leave for a bundle. A stranger's sender becomes one of
// the domain that sends the message on, since SPF of his own does not know this host; so does a
// sender of a domain here that a stranger has only written there. What was found out when
// it came in is sealed beside it. Either may fail without harm: the
// message goes as it is.
func (r *Receiver) sentOn(ctx context.Context, env mail.Envelope, b *bundle, p *plan, msg *store.Parcel) (mail.Address, *store.Parcel) {
	if b.via == "" {
		return env.From, msg
	}
	from := env.From
	if local, err := r.opt.Directory.IsLocal(ctx, from.Domain); err == nil && (!local || p.found.forgedSender()) && r.opt.Returns != nil && !from.IsZero() {
		if a, ok := r.opt.Returns.Forward(from, b.via); ok {
			from = a
		} else {
			r.opt.Log.Info("sender not rewritten: the address would be too long", "id", env.ID, "from", env.From.String(), "domain", b.via)
		}
	}
	if p.found == nil || r.opt.Signers == nil || env.Login != "" {
		return from, msg
	}
	fields, err := r.sealFor(ctx, b.via, p.found, msg)
	if err != nil {
		r.opt.Log.Warn("message not sealed", "id", env.ID, "message_id", msg.Message().MessageID, "domain", b.via, "reason", fault.Say(err), "err", err)
	}
	if len(fields) == 0 {
		return from, msg
	}
	return from, msg.Prepend(fields)
}

// sealFor adds to the chain of a message. One algorithm seals a set, and RSA is the one that all
// know (RFC 8617, 4.2.1).
func (r *Receiver) sealFor(ctx context.Context, domain string, found *Assessment, msg *store.Parcel) ([]byte, error) {
	keys, err := r.keysOf(ctx, domain)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	key := keys[0]
	for _, k := range keys {
		if dkim.Algorithm(k.Signer) == dkim.RSA {
			key = k
		}
	}
	body, err := msg.Open(ctx, int64(len(msg.Header())), -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return arc.Seal(msg.Header(), body, key, arc.SealOptions{Now: r.opt.Now(), Chain: found.Chain, Results: found.Results})
}

// returns tells whom mail for a rewritten sender goes back to. Only reports do, which have the
// null sender: that is what such an address is for, and all that it lets pass.
func (r *Receiver) returns(from, to mail.Address) (mail.Address, bool) {
	if r.opt.Returns == nil || !from.IsZero() || !srs.Is(to) {
		return mail.Address{}, false
	}
	back, err := r.opt.Returns.Reverse(to)
	return back, err == nil
}
