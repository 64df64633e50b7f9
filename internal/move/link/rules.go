package link

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/signin"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/store"
)

// Check tells what is wrong with a rule. Faults: Invalid.
func (r *Rule) Check() error {
	s := r.Server
	bad := func(format string, args ...any) error { return fault.Newf(fault.Invalid, format, args...) }
	switch {
	case s.Protocol != "imap" && s.Protocol != "pop3":
		return bad("a link is to imap or pop3, not to %q", s.Protocol)
	case s.Security != "tls" && s.Security != "starttls" && s.Security != "offered":
		return bad("the security of a link is tls, starttls or offered, not %q", s.Security)
	case s.Host == "" || len(s.Host) > 255 || strings.ContainsAny(s.Host, " /@\r\n\x00"):
		return bad("%q is no name of a host", s.Host)
	case s.Port == 0:
		return bad("the port of the source is missing")
	case r.User == "" || len(r.User) > 320 || !printable(r.User):
		return bad("the user's name at the source is missing, or has characters that no name has")
	case len(r.Mailboxes) > maxPatterns:
		return bad("a link has at most %d patterns of mailboxes", maxPatterns)
	case r.Poll < minPoll || r.Poll > maxPoll:
		return bad("the time between two looks is %s; it must be from %s to %s", r.Poll, minPoll, maxPoll)
	case s.Protocol == "pop3" && (r.BothWays || r.FollowDeletes || len(r.Mailboxes) > 0):
		return bad("POP3 has no flags and one mailbox only: --both-ways, --follow-deletes and --mailbox need IMAP")
	}
	for _, p := range r.Mailboxes {
		if _, err := path.Match(p, ""); err != nil || p == "" || len(p) > 400 || !printable(p) {
			return bad("%q is no pattern of mailboxes such as Lists/*", p)
		}
	}
	if r.Into != "" {
		if _, err := store.CleanName(r.Into); err != nil {
			return err
		}
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// takes tells whether a mailbox of the source is linked.
func (r *Rule) takes(m *move.Mailbox) bool {
	return r.chosen(m.Name) && (m.Skip == "" || slices.Contains(r.Mailboxes, m.Name))
}

// chosen tells whether a mailbox of the source is one of the link's. In a pattern * stands for
// anything but a separator of levels; "Lists/**" for all below.
func (r *Rule) chosen(name string) bool {
	if len(r.Mailboxes) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Mailboxes, func(p string) bool {
		if top, all := strings.CutSuffix(p, "/**"); all {
			return strings.HasPrefix(name, top+"/")
		}
		if strings.EqualFold(p, "INBOX") {
			return strings.EqualFold(name, "INBOX")
		}
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// Add stores a rule with what signs in, and gives it an ID. It is carried out at once. Faults:
// Invalid, Limited, Exists if the account has the same one already.
func (l *Links) Add(ctx context.Context, r Rule, s Secret) (Rule, error) {
	if r.Poll == 0 {
		r.Poll = l.opt.Poll
	}
	r.Poll = r.Poll.Truncate(time.Second)
	r.Created = l.opt.Now().UTC().Truncate(time.Second)
	if err := r.Check(); err != nil {
		return r, err
	}
	var sealed []byte
	err := l.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		if err := room(w, r); err != nil {
			return err
		}
		last, err := lastID(w)
		if err != nil {
			return err
		}
		r.ID = last + 1
		if sealed, err = l.seal(r.ID, r.Account, s); err != nil {
			return err
		}
		var e record.Enc
		e.U(uint64(r.ID))
		for _, kv := range [...][2][]byte{{{famLast}, record.Seal(recLast, e)}, {key(famRule, r.ID), r.encode()}, {key(famSecret, r.ID), sealed}, {key(famState, r.ID), new(state).encode()}} {
			if err := w.Put(kv[0], kv[1]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	l.appeared(r, state{})
	return r, nil
}

// room looks whether an account may have one more.
func room(r engine.Reader, want Rule) error {
	n := 0
	var bad error
	err := eachRule(r, func(have Rule) bool {
		if have.Account != want.Account {
			return true
		}
		n++
		if have.Server.Host == want.Server.Host && have.Server.Port == want.Server.Port && have.User == want.User && have.Into == want.Into && slices.Equal(have.Mailboxes, want.Mailboxes) {
			bad = fault.Newf(fault.Exists, "link %d is the same already; give it another password with: martlet link passwd %d", have.ID, have.ID)
		}
		return bad == nil
	}, nil)
	if err == nil && bad == nil && n >= maxRules {
		bad = fault.Newf(fault.Limited, "the account has %d links, which are as many as one may have", n)
	}
	if bad != nil {
		return bad
	}
	return err
}

func lastID(r engine.Reader) (ID, error) {
	v, ok, err := r.Get([]byte{famLast})
	if err != nil || !ok {
		return 0, err
	}
	d, err := unseal(v, recLast, "number of links")
	if err != nil {
		return 0, err
	}
	id := ID(d.U())
	return id, d.End("number of links")
}

// eachRule reads all rules in order of their IDs, and tells of damaged ones.
func eachRule(r engine.Reader, fn func(Rule) bool, broken func(ID, error)) error {
	return r.Scan([]byte{famRule}, []byte{famRule + 1}, false, func(k, v []byte) bool {
		id := ID(engine.Num(k, 0))
		rule, err := decodeRule(id, v)
		if err != nil {
			if broken != nil {
				broken(id, err)
			}
			return true
		}
		return fn(rule)
	})
}

// read returns a rule and how it is going. Faults: NotFound.
func (l *Links) read(ctx context.Context, id ID) (rule Rule, s state, err error) {
	err = l.opt.Engine.View(ctx, Shard, func(r engine.Reader) (err error) {
		rule, s, err = readBoth(r, id)
		return err
	})
	return rule, s, err
}

func readBoth(r engine.Reader, id ID) (rule Rule, s state, err error) {
	v, ok, err := r.Get(key(famRule, id))
	if err != nil {
		return rule, s, err
	}
	if !ok {
		return rule, s, fault.Newf(fault.NotFound, "there is no link %d; see: martlet link list", id)
	}
	if rule, err = decodeRule(id, v); err != nil {
		return rule, s, err
	}
	if v, ok, err = r.Get(key(famState, id)); err != nil || !ok {
		return rule, s, err
	}
	s, err = decodeState(v)
	if fault.Is(err, fault.Corrupt) { // it is known again after the next run
		s, err = state{}, nil
	}
	return rule, s, err
}

// secret returns what signs in for a link.
func (l *Links) secret(ctx context.Context, r Rule) (s Secret, err error) {
	err = l.opt.Engine.View(ctx, Shard, func(rd engine.Reader) error {
		v, ok, err := rd.Get(key(famSecret, r.ID))
		if err != nil {
			return err
		}
		if !ok {
			return fault.Newf(fault.Corrupt, "what signs in for link %d is missing", r.ID)
		}
		s, err = l.unsealSecret(r.ID, r.Account, v)
		return err
	})
	return s, err
}

// write stores what is not nil of a link that is there still. Faults: NotFound.
func (l *Links) write(ctx context.Context, id ID, s *state, sealed []byte) error {
	return l.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		if _, ok, err := w.Get(key(famRule, id)); err != nil {
			return err
		} else if !ok {
			return fault.Newf(fault.NotFound, "there is no link %d any more", id)
		}
		if sealed != nil {
			if err := w.Put(key(famSecret, id), sealed); err != nil {
				return err
			}
		}
		if s == nil {
			return nil
		}
		return w.Put(key(famState, id), s.encode())
	})
}

// writeOver stores a state, unless another node has changed it since it was the earlier one:
// what it wants is not known here yet. Faults: NotFound.
func (l *Links) writeOver(ctx context.Context, id ID, s *state, earlier string) error {
	if _, shared := l.opt.Engine.(engine.Shared); !shared || earlier == "" {
		return l.write(ctx, id, s, nil)
	}
	return l.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		if _, ok, err := w.Get(key(famRule, id)); err != nil {
			return err
		} else if !ok {
			return fault.Newf(fault.NotFound, "there is no link %d any more", id)
		}
		v, ok, err := w.Get(key(famState, id))
		if err != nil || ok && string(v) != earlier {
			return err
		}
		return w.Put(key(famState, id), s.encode())
	})
}

// SetSecret gives a link another password or sign-in, and has it tried at once unless an
// administrator has paused it. Faults: NotFound.
func (l *Links) SetSecret(ctx context.Context, id ID, s Secret) error {
	r, st, err := l.read(ctx, id)
	if err != nil {
		return err
	}
	if (s.Grant == nil) != (r.OAuth == "") {
		how := "a password: martlet link passwd"
		if r.OAuth != "" {
			how = "OAuth: martlet link passwd --oauth " + r.OAuth
		}
		return fault.Newf(fault.Invalid, "link %d signs in by %s", id, how)
	}
	if err := l.keepSecret(ctx, r, s); err != nil {
		return err
	}
	return l.update(ctx, id, func(now *state) {
		if now.Pause != byAdmin {
			*now = state{Last: st.Last, Brought: now.Brought}
		}
	})
}

func (l *Links) keepSecret(ctx context.Context, r Rule, s Secret) error {
	sealed, err := l.seal(r.ID, r.Account, s)
	if err != nil {
		return err
	}
	return l.write(ctx, r.ID, nil, sealed)
}

// swapGrant stores a renewed grant in the place of the one that it was made of, and returns what
// is stored then: if somebody has given another meanwhile, that.
func (l *Links) swapGrant(ctx context.Context, r Rule, before, g signin.Grant) (now signin.Grant, err error) {
	sealed, err := l.seal(r.ID, r.Account, Secret{Grant: &g})
	if err != nil {
		return g, err
	}
	err = l.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		now = g
		v, ok, err := w.Get(key(famSecret, r.ID))
		if err != nil {
			return err
		}
		if !ok {
			return fault.Newf(fault.NotFound, "there is no link %d any more", r.ID)
		}
		have, err := l.unsealSecret(r.ID, r.Account, v)
		if err != nil {
			return err
		}
		if have.Grant != nil && (have.Grant.Refresh != before.Refresh || have.Grant.Access != before.Access) {
			now = *have.Grant
			return nil
		}
		return w.Put(key(famSecret, r.ID), sealed)
	})
	return now, err
}

// Pause has nothing done for a link until Resume.
func (l *Links) Pause(ctx context.Context, id ID) error {
	return l.update(ctx, id, func(s *state) { s.Pause = byAdmin })
}

// Resume ends a pause, whatever the reason, and has the link tried at once.
func (l *Links) Resume(ctx context.Context, id ID) error {
	return l.update(ctx, id, func(s *state) { *s = state{Last: s.Last, Brought: s.Brought} })
}

// update changes how a link is going, on disk and in the scheduler.
func (l *Links) update(ctx context.Context, id ID, change func(*state)) error {
	var s state
	var r Rule
	err := l.opt.Engine.Update(ctx, Shard, func(w engine.Writer) (err error) {
		if r, s, err = readBoth(w, id); err != nil {
			return err
		}
		change(&s)
		return w.Put(key(famState, id), s.encode())
	})
	if err != nil {
		return err
	}
	l.changed(r, s)
	return nil
}

// Remove forgets a link and what signs in for it. The mail that it brought stays, and is known
// as brought. Faults: NotFound.
func (l *Links) Remove(ctx context.Context, id ID) error {
	err := l.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		if _, ok, err := w.Get(key(famRule, id)); err != nil {
			return err
		} else if !ok {
			return fault.Newf(fault.NotFound, "there is no link %d; see: martlet link list", id)
		}
		for _, family := range [...]byte{famRule, famSecret, famState} {
			if err := w.Delete(key(family, id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		l.vanished(id)
	}
	return err
}

// List returns links with how they are going, in order of their IDs: those of an account, or
// of all (0).
func (l *Links) List(ctx context.Context, account mail.AccountID) (list []Status, err error) {
	err = l.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		list = nil
		var bad error
		err := eachRule(r, func(rule Rule) bool {
			if account != 0 && rule.Account != account {
				return true
			}
			var s state
			if _, s, bad = readBoth(r, rule.ID); bad == nil {
				list = append(list, l.status(rule, s))
			}
			return bad == nil
		}, nil)
		if err == nil {
			err = bad
		}
		return err
	})
	return list, err
}

// Show returns a link with how it is going. Faults: NotFound.
func (l *Links) Show(ctx context.Context, id ID) (Status, error) {
	r, s, err := l.read(ctx, id)
	if err != nil {
		return Status{}, err
	}
	return l.status(r, s), nil
}
