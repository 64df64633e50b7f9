// Package bench puts a mail server under load and measures it, over the public
// protocols alone: IMAP and LMTP. It works on any server, so that two can be
// compared with the same bytes.
//
// Its clients are as thin as they can be: they find the ends of replies and literals
// and look at little else, so that the server is what is measured. They are no
// judges of correctness; a reply other than success ends a run as an error.
//
// The loop is closed: each connection has one request under way and sends the next
// when the answer is there. The figures are therefore what n patient clients get, not
// what happens when mail keeps coming faster than it is taken.
//
// It does not start, configure or clean a server, and it does no TLS: what is
// measured here is the store behind the protocol. Use an account made for it; the
// runs add messages to INBOX and make mailboxes whose names begin with "bench-".
//
// RFC 2033 (LMTP), RFC 2920 (pipelining), RFC 9051 and 3501 (IMAP), RFC 7888
// (non-synchronising literals), RFC 3502 (MULTIAPPEND), RFC 7162 (CHANGEDSINCE,
// QRESYNC), RFC 2177 (IDLE), RFC 5256 (SORT, THREAD).
package bench

import (
	"context"
	"fmt"
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

// notYet stands for scenarios that are being written.
func notYet(context.Context, *runner) error {
	return fault.New(fault.Unsupported, "not measured yet")
}

func scenarios() []scenario {
	list := []scenario{
		{"lmtp", "deliveries by LMTP", needLMTP, runLMTP},
		{"smtp", "deliveries by SMTP", needSMTP, notYet},
		{"append", "deliveries by IMAP APPEND", needIMAP, runAppend},
		{"multiappend", "APPEND of 20 and of 500 messages at once", needIMAP, runMultiAppend},
		{"select", "SELECT of the large mailbox", needIMAP, runSelect},
		{"first-page", "SELECT, and envelopes and flags of the newest 50", needIMAP, notYet},
		{"fetch-flags", "UID FETCH 1:* (FLAGS)", needIMAP, fetchAll("fetch-flags", "UID FETCH 1:* (FLAGS)")},
		{"fetch-envelope", "UID FETCH 1:* (UID FLAGS ENVELOPE)", needIMAP,
			fetchAll("fetch-envelope", "UID FETCH 1:* (UID FLAGS ENVELOPE)")},
		{"fetch-bodystructure", "FETCH 1:* (BODYSTRUCTURE)", needIMAP,
			fetchAll("fetch-bodystructure", "FETCH 1:* (BODYSTRUCTURE)")},
		{"fetch-size", "FETCH 1:* (RFC822.SIZE)", needIMAP, fetchAll("fetch-size", "FETCH 1:* (RFC822.SIZE)")},
		{"headers", "FETCH of the header fields that clients show", needIMAP, notYet},
		{"fetch-whole", "FETCH of 1,000 whole messages", needIMAP, runFetchWhole},
		{"store", "STORE 1:* +FLAGS and -FLAGS.SILENT", needIMAP, runStore},
		{"changedsince", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE n) after 10 changes", needIMAP, runChangedSince},
		{"qresync", "SELECT with QRESYNC after 10 changes", needIMAP, runQResync},
		{"qresync-100", "SELECT with QRESYNC after 100 changes", needIMAP, notYet},
		{"announce", "from the answer to a delivery to the last EXISTS in IDLE", needIMAP | needLMTP, runAnnounce},
		{"idle-memory", "memory of connections in IDLE", needIMAP | needPID, runIdleMemory},
		{"idle-cpu", "processor time of connections in IDLE", needIMAP | needPID | byName, notYet},
		{"open-memory", "memory of sessions with the large mailbox selected", needIMAP | needPID, notYet},
		{"handshake", "connections by TLS with login, full and resumed", needIMAP | needTLS, notYet},
		{"restart", "a restart of the server until a login succeeds", needIMAP | needRestart, notYet},
		{"disk", "bytes on disk for each byte of mail", needIMAP | needLMTP | needData | byName, notYet},
		{"grow", "rate of deliveries by LMTP while the store grows", needLMTP | byName, notYet},
	}
	for _, q := range questions() {
		list = append(list, q.scenario())
	}
	return list
}

// Names returns the scenarios in the order they run, each with a few words about it.
func Names() [][2]string {
	var out [][2]string
	for _, s := range scenarios() {
		out = append(out, [2]string{s.name, s.about})
	}
	return out
}

// Run runs the named scenarios, or all that the target's fields allow if there are no
// names, and hands each result to report as it comes.
func Run(ctx context.Context, t Target, o Options, names []string, report func(Result)) error {
	r := &runner{target: t, opt: o.withDefaults(), report: report}
	if len(t.Recipients) == 0 {
		r.target.Recipients = []string{t.User}
	}
	chosen, err := choose(t, o.Restart != nil, names)
	if err != nil {
		return err
	}
	defer r.close()
	for _, s := range chosen {
		if err := s.run(ctx, r); err != nil {
			if ctx.Err() != nil {
				return fault.Wrap(fault.Closed, "stopped", ctx.Err())
			}
			return fmt.Errorf("%s: %w", s.name, err)
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
		{needIMAP, "an IMAP address with user and password"},
		{needLMTP, "an LMTP address with user or recipient"},
		{needSMTP, "an SMTP address with user or recipient"},
		{needPID, "the process id of the server"},
		{needData, "the folder that holds the server's mail"},
		{needTLS, "TLS for IMAP"},
		{needRestart, "a command that restarts the server"},
	} {
		if n&c.n != 0 {
			parts = append(parts, c.text)
		}
	}
	return strings.Join(parts, " and ")
}

// runner is what the scenarios of one Run share.
type runner struct {
	target Target
	opt    Options
	report func(Result)
	box    string    // large mailbox, once seeded
	conn   *imapConn // session that has it selected
	serial int       // delivery runs so far: part of the Message-IDs
}

func (r *runner) close() {
	if r.conn != nil {
		r.conn.Close()
	}
}
