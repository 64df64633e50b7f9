package outward

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
)

// Server is an account at another server that mail goes to; imapsource.Source is one.
type Server interface {
	move.Source
	CreateMailbox(ctx context.Context, name string, role mail.Role, subscribed bool) (source string, err error)
	Append(ctx context.Context, source string, list []imapc.Appending, ids []string) ([]imapsource.Appended, error)
	Delete(ctx context.Context, source string, keys []string, trash bool) error
	SetFlags(ctx context.Context, source string, keys []string, how imapc.Storing, flags mail.Flags, keywords []string) error
	Subscribe(ctx context.Context, source string, on bool) error
}

// ServerOptions say what goes to a server, and how.
type ServerOptions struct {
	Source    Source
	Server    Server
	Spool     Spool
	Mailboxes []string // patterns, as in Options
	KeepNames bool     // roles do not count: a mailbox goes to the one of its name
	// Proof reads everything back from the server and compares the bytes. Else what the server
	// says of the messages is compared: Message-ID, size, date and flags.
	Proof bool
	// Unsettled: an export before this one was stopped a moment ago. What it had sent last may
	// become mail only now: it is waited for until nothing comes any more.
	Unsettled bool
	Progress  func(Progress)
	Wait      func(ctx context.Context, d time.Duration) error
}

// tries is how often in a row a batch is begun again after the connection broke.
const tries = 5

// RunServer takes an account to another server. What is there already is found by
// Message-ID and size, and is not brought again: so no state is kept, and an export that was
// stopped goes on. Flags that are missing there are set, none are taken away.
func RunServer(ctx context.Context, o ServerOptions) (*Report, error) {
	r := &serverRun{ServerOptions: o, report: &Report{Mailboxes: []Result{}, Skipped: []Skip{}}}
	list, err := o.Source.Mailboxes(ctx)
	if err != nil {
		return r.report, err
	}
	if list = slices.DeleteFunc(list, func(m move.Mailbox) bool { return !Matches(o.Mailboxes, m.Name) }); len(list) == 0 {
		return r.report, fault.New(fault.NotFound, "the account has no mailbox of such a name")
	}
	if r.there, err = o.Server.Mailboxes(ctx); err != nil {
		return r.report, err
	}
	for _, m := range list {
		r.done.Total += m.Messages
	}
	taken := map[string]bool{}
	targets := make([]*move.Mailbox, len(list))
	for i, m := range list {
		if targets[i], err = r.mailbox(ctx, m, taken); err != nil {
			return r.report, err
		}
	}
	for i, m := range list { // when all is there
		if targets[i] == nil {
			continue
		}
		v := &sender{serverRun: r, to: *targets[i], result: &r.report.Mailboxes[i]}
		if err := v.prove(ctx, m); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

// serverRun is an export to a server under way.
type serverRun struct {
	ServerOptions
	report *Report
	there  []move.Mailbox
	done   Progress
}

// target finds the mailbox that one goes into: the one with its role, the one of its name, or a
// new one.
func (r *serverRun) target(ctx context.Context, m move.Mailbox, taken map[string]bool) (move.Mailbox, error) {
	i := -1
	if m.Role != "" && !r.KeepNames {
		i = slices.IndexFunc(r.there, func(t move.Mailbox) bool { return t.Role == m.Role && !taken[t.Source] })
	}
	if i < 0 {
		i = slices.IndexFunc(r.there, func(t move.Mailbox) bool { return t.Name == m.Name })
	}
	if i >= 0 {
		t := r.there[i]
		taken[t.Source] = true
		if m.Subscribed && !t.Subscribed {
			return t, r.Server.Subscribe(ctx, t.Source, true)
		}
		return t, nil
	}
	name := m.Name
	source, err := r.Server.CreateMailbox(ctx, name, m.Role, m.Subscribed)
	if isRefusal(err) { // servers differ in what they take
		if name = plainName(m.Name); name != m.Name {
			source, err = r.Server.CreateMailbox(ctx, name, m.Role, m.Subscribed)
		}
	}
	if isRefusal(err) && m.Role != "" {
		source, err = r.Server.CreateMailbox(ctx, name, "", m.Subscribed)
	}
	if err != nil {
		return move.Mailbox{}, err
	}
	t := move.Mailbox{Name: name, Source: source, Role: m.Role, Subscribed: m.Subscribed}
	taken[source] = true
	r.there = append(r.there, t)
	return t, nil
}

// isRefusal tells that the server does not want a mailbox of that name.
func isRefusal(err error) bool {
	return imapc.ProblemOf(err) == imapc.No || imapc.ProblemOf(err) == imapc.Bad || fault.Is(err, fault.Invalid)
}

// plainName is a name with nothing in it but letters, digits, blanks and what any server takes.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" /-_,()", r) {
			return r
		}
		return '_'
	}, name)
}

// mailbox takes one to the server and returns where it went, nil if nowhere.
func (r *serverRun) mailbox(ctx context.Context, m move.Mailbox, taken map[string]bool) (*move.Mailbox, error) {
	r.report.Mailboxes = append(r.report.Mailboxes, Result{Mailbox: m.Name})
	res := &r.report.Mailboxes[len(r.report.Mailboxes)-1]
	to, err := r.target(ctx, m, taken)
	if isRefusal(err) {
		res.Error = "the server does not make the mailbox: " + fault.Say(err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	res.Path = to.Name
	v := &sender{serverRun: r, to: to, result: res}
	if err := v.settled(ctx, m.Messages); err != nil {
		return nil, err
	}
	err = r.Source.Read(ctx, m, move.Reading{}, v)
	for _, then := range []func(context.Context) error{v.flush, v.flags, v.untwin} {
		if err == nil {
			err = then(ctx)
		}
	}
	if fault.Is(err, fault.NotFound) {
		res.Error = "the mailbox was deleted meanwhile"
		return nil, nil
	}
	return &to, err
}
