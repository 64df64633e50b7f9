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
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Target is the server under load. Ports that no scenario needs may be empty.
type Target struct {
	IMAP       string   // host:port
	LMTP       string   // host:port
	User       string   // IMAP login name
	Password   string   // IMAP password
	Recipients []string // addresses that LMTP delivers to in turn; empty means User
	PID        int      // server's main process on this machine, 0 if unknown
}

// Options say how much is done. Zero values mean the defaults given here.
type Options struct {
	Connections []int         // of the delivery scenarios; 1, 10, 50
	Duration    time.Duration // of each delivery run; 5 s
	Messages    int           // in the large mailbox; 100,000
	Repeat      int           // times each request on the large mailbox is made, quick ones ten times as often; 5
	Idle        int           // connections of idle-memory; 2,000
	Sizes       Sizes         // of delivered messages; Small

	// Progress, if set, is told what is going on, how much of it is done, and how much
	// there is. It is called from one goroutine at a time.
	Progress func(what string, done, total int)
}

func (o Options) withDefaults() Options {
	if len(o.Connections) == 0 {
		o.Connections = []int{1, 10, 50}
	}
	if o.Duration <= 0 {
		o.Duration = 5 * time.Second
	}
	if o.Messages <= 0 {
		o.Messages = 100_000
	}
	if o.Repeat <= 0 {
		o.Repeat = 5
	}
	if o.Idle <= 0 {
		o.Idle = 2_000
	}
	if o.Sizes == "" {
		o.Sizes = Small
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	return o
}

// Result is one measurement. Times are in milliseconds, memory and Bytes in bytes.
type Result struct {
	Scenario    string  `json:"scenario"`
	Connections int     `json:"connections"`
	Sizes       Sizes   `json:"sizes,omitempty"`
	Mailbox     int     `json:"mailbox,omitempty"`  // messages in the mailbox
	Batch       int     `json:"batch,omitempty"`    // messages of each request, 0: one
	Operations  int     `json:"operations"`         // requests answered with success
	Failures    int     `json:"failures,omitempty"` // requests answered otherwise
	Seconds     float64 `json:"seconds"`
	Rate        float64 `json:"rate"` // operations per second
	First       float64 `json:"first_ms"`
	Median      float64 `json:"median_ms"`
	P99         float64 `json:"p99_ms"`
	Bytes       int64   `json:"bytes"` // sent or received, whichever the scenario is about

	RSS  int64 `json:"rss,omitempty"`  // added by the connections, all processes
	PSS  int64 `json:"pss,omitempty"`  // likewise, pages in common counted once
	Base int64 `json:"base,omitempty"` // PSS before

	Failure string `json:"failure,omitempty"` // first reply that was not success
}

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
)

func scenarios() []scenario {
	list := []scenario{
		{"lmtp", "deliveries by LMTP", needLMTP, runLMTP},
		{"append", "deliveries by IMAP APPEND", needIMAP, runAppend},
		{"multiappend", "APPEND of 20 and of 500 messages at once", needIMAP, runMultiAppend},
		{"select", "SELECT of the large mailbox", needIMAP, runSelect},
		{"fetch-flags", "UID FETCH 1:* (FLAGS)", needIMAP, fetchAll("fetch-flags", "UID FETCH 1:* (FLAGS)")},
		{"fetch-envelope", "UID FETCH 1:* (ENVELOPE)", needIMAP, fetchAll("fetch-envelope", "UID FETCH 1:* (ENVELOPE)")},
		{"fetch-bodystructure", "UID FETCH 1:* (BODYSTRUCTURE)", needIMAP,
			fetchAll("fetch-bodystructure", "UID FETCH 1:* (BODYSTRUCTURE)")},
		{"fetch-size", "FETCH 1:* (RFC822.SIZE)", needIMAP, fetchAll("fetch-size", "FETCH 1:* (RFC822.SIZE)")},
		{"fetch-whole", "FETCH of 1,000 whole messages", needIMAP, runFetchWhole},
		{"store", "STORE 1:* +FLAGS and -FLAGS.SILENT", needIMAP, runStore},
		{"changedsince", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE n) after 10 changes", needIMAP, runChangedSince},
		{"qresync", "SELECT with QRESYNC after 10 changes", needIMAP, runQResync},
		{"announce", "from the answer to a delivery to EXISTS in IDLE", needIMAP | needLMTP, runAnnounce},
		{"idle-memory", "memory of connections in IDLE", needIMAP | needPID, runIdleMemory},
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
	chosen, err := choose(t, names)
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
func choose(t Target, names []string) ([]scenario, error) {
	var have need
	if t.IMAP != "" && t.User != "" {
		have |= needIMAP
	}
	if t.LMTP != "" && (t.User != "" || len(t.Recipients) > 0) {
		have |= needLMTP
	}
	if t.PID > 0 {
		have |= needPID
	}
	var chosen []scenario
	known := map[string]bool{}
	for _, s := range scenarios() {
		known[s.name] = true
		named := slices.Contains(names, s.name)
		if named && s.needs&^have != 0 {
			return nil, fault.Newf(fault.Invalid, "scenario %s needs %s", s.name, s.needs&^have)
		}
		if named || len(names) == 0 && s.needs&^have == 0 {
			chosen = append(chosen, s)
		}
	}
	for _, n := range names {
		if !known[n] {
			return nil, fault.Newf(fault.Invalid, "no scenario is called %q", n)
		}
	}
	if len(chosen) == 0 {
		return nil, fault.New(fault.Invalid, "nothing to do: no user, or neither an IMAP nor an LMTP address")
	}
	return chosen, nil
}

// String names what is missing.
func (n need) String() string {
	var parts []string
	if n&needIMAP != 0 {
		parts = append(parts, "an IMAP address with user and password")
	}
	if n&needLMTP != 0 {
		parts = append(parts, "an LMTP address with user or recipient")
	}
	if n&needPID != 0 {
		parts = append(parts, "the process id of the server")
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
