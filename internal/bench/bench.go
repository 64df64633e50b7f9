// Package bench puts a mail server under load and measures it, over the public
// protocols alone: IMAP, LMTP and SMTP, with TLS or without. It works on any server, so
// that two can be compared with the same bytes. docs/bench.md says what is measured.
//
// Its clients are as thin as they can be: they find the ends of replies and literals
// and look at little else, so that the server is what is measured. They are no
// judges of correctness; a reply other than success ends a run as an error.
//
// The loop is closed: each connection has one request under way and sends the next
// when the answer is there. The figures are therefore what n patient clients get, not
// what happens when mail keeps coming faster than it is taken.
//
// It does not start, configure or clean a server; a hook of the caller may restart it.
// Use an account made for it: the runs add messages to INBOX and make mailboxes whose
// names begin with "bench-". Some of them stay, to be used again.
//
// RFC 2033 (LMTP), RFC 5321 (SMTP), RFC 2920 (pipelining), RFC 3207 (STARTTLS), RFC 9051
// and 3501 (IMAP), RFC 7888 (non-synchronising literals), RFC 3502 (MULTIAPPEND), RFC
// 7162 (CHANGEDSINCE, QRESYNC), RFC 2177 (IDLE), RFC 5256 (SORT, THREAD), RFC 8446 (TLS).
package bench

import (
	"context"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// scenario is one named run; it may report several results.
type scenario struct {
	name, about string
	needs       need
	run         func(ctx context.Context, r *runner) error
}

type need uint8

const (
	needIMAP need = 1 << iota
	needLMTP
	needPID
	needSMTP
	needData
	needTLS
	needRestart
	byName // runs only if it is named: it takes long
)

func scenarios() []scenario {
	list := []scenario{
		{"lmtp", "deliveries by LMTP", needLMTP, transfers("lmtp", lmtp)},
		{"smtp", "deliveries by SMTP", needSMTP, transfers("smtp", smtp)},
		{"append", "deliveries by IMAP APPEND", needIMAP, runAppend},
		{"multiappend", "APPEND of 20 and of 500 messages at once", needIMAP, runMultiAppend},
		{"select", "SELECT of the large mailbox", needIMAP, runSelect},
		{"first-page", "SELECT, and envelopes and flags of the newest 50", needIMAP, runFirstPage},
		fetchAll("fetch-flags", "UID FETCH 1:* (FLAGS)"),
		fetchAll("fetch-envelope", "UID FETCH 1:* (UID FLAGS ENVELOPE)"),
		fetchAll("fetch-bodystructure", "FETCH 1:* (BODYSTRUCTURE)"),
		fetchAll("fetch-size", "FETCH 1:* (RFC822.SIZE)"),
		fetchAll("headers", shown),
		{"fetch-whole", "FETCH of 1,000 whole messages", needIMAP, runFetchWhole},
		{"store", `STORE 1:* +FLAGS (\Seen) and -FLAGS.SILENT (\Seen)`, needIMAP, runStore},
		{"changedsince", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE n) after 10 changes", needIMAP, runChangedSince},
		{"qresync", "SELECT with QRESYNC after 10 changes", needIMAP, qresync("qresync", 10)},
		{"qresync-100", "SELECT with QRESYNC after 100 changes", needIMAP, qresync("qresync-100", 100)},
		{"mix", "commands of mail programs, of several kinds", needIMAP | byName, runMix},
		{"announce", "from the answer to a delivery to the last EXISTS in IDLE", needIMAP | needLMTP, runAnnounce},
		{"idle-memory", "memory of connections in IDLE", needIMAP | needPID, runIdleMemory},
		{"idle-cpu", "processor time of connections in IDLE", needIMAP | needPID | byName, runIdleCPU},
		{"open-memory", "memory of sessions with the large mailbox selected", needIMAP | needPID, runOpenMemory},
		{"handshake", "connections by TLS with login, full and resumed", needIMAP | needTLS, runHandshake},
		{"restart", "a restart of the server until a login succeeds", needIMAP | needRestart, runRestart},
		{"disk", "bytes on disk for each byte of mail", needIMAP | needData | byName, runDisk},
		{"grow", "rate of deliveries by LMTP while the store grows", needLMTP | byName, runGrow},
	}
	for _, q := range questions() {
		list = append(list, q.scenario())
	}
	return list
}

// Names returns the scenarios in the order they run, each with a few words about it. A
// star is before those that run only if they are named.
func Names() [][2]string {
	var out [][2]string
	for _, s := range scenarios() {
		star := ""
		if s.needs&byName != 0 {
			star = "* "
		}
		out = append(out, [2]string{s.name, star + s.about})
	}
	return out
}

// Run runs the named scenarios, or all that the target's fields allow if there are no
// names, and hands each result to report as it comes. Of those that nobody named, one
// that the server does not support is reported with a Failure alone.
func Run(ctx context.Context, t Target, o Options, names []string, report func(Result)) error {
	r := newRunner(t, o, report)
	chosen, err := choose(t, o.Restart != nil, names)
	if err != nil {
		return err
	}
	defer r.leave()
	for _, s := range chosen {
		err := s.run(ctx, r)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return fault.Wrap(fault.Closed, "stopped", ctx.Err())
		case len(names) == 0 && fault.Is(err, fault.Unsupported):
			report(Result{Scenario: s.name, Failure: fault.Say(err)})
		default:
			return fault.Wrap(fault.Of(err), s.name, err)
		}
	}
	return nil
}

// choose returns the scenarios of the names, in their own order.
func choose(t Target, restart bool, names []string) ([]scenario, error) {
	have := t.has(restart)
	var chosen []scenario
	known := map[string]bool{}
	for _, s := range scenarios() {
		known[s.name] = true
		named := slices.Contains(names, s.name)
		if missing := s.needs &^ have &^ byName; named && missing != 0 {
			return nil, fault.Newf(fault.Invalid, "scenario %s needs %s", s.name, missing)
		}
		if named || len(names) == 0 && s.needs&byName == 0 && s.needs&^have == 0 {
			chosen = append(chosen, s)
		}
	}
	for _, n := range names {
		if !known[n] {
			return nil, fault.Newf(fault.Invalid, "no scenario is called %q", n)
		}
	}
	if len(chosen) == 0 {
		return nil, fault.New(fault.Invalid, "nothing to do: no user, or none of an IMAP, an LMTP and an SMTP address")
	}
	return chosen, nil
}

// has returns what the target offers.
func (t Target) has(restart bool) need {
	var have need
	for _, c := range []struct {
		yes bool
		n   need
	}{
		{t.IMAP != "" && t.User != "", needIMAP},
		{t.LMTP != "" && (t.User != "" || len(t.Recipients) > 0), needLMTP},
		{t.SMTP != "" && (t.User != "" || len(t.Recipients) > 0), needSMTP},
		{t.PID > 0, needPID},
		{t.Data != "", needData},
		{t.TLS.IMAP != Plain, needTLS},
		{restart, needRestart},
	} {
		if c.yes {
			have |= c.n
		}
	}
	return have
}

// String names what is missing.
func (n need) String() string {
	var parts []string
	for _, c := range []struct {
		n    need
		text string
	}{
		{needIMAP, "an IMAP address with user and password (--imap, --user)"},
		{needLMTP, "an LMTP address with user or recipient (--lmtp)"},
		{needSMTP, "an SMTP address with user or recipient (--smtp)"},
		{needPID, "the process id of the server (--pid)"},
		{needData, "the folder that holds the server's mail (--data)"},
		{needTLS, "TLS for IMAP (--tls)"},
		{needRestart, "a command that restarts the server (--restart)"},
	} {
		if n&c.n != 0 {
			parts = append(parts, c.text)
		}
	}
	return strings.Join(parts, " and ")
}
