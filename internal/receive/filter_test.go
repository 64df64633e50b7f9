package receive

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	protocol "github.com/d--j/go-milter"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/milter"
	"github.com/martlet-mail/martlet/internal/store"
)

// program is a filter that does at the end of a message what a test says.
type program struct {
	protocol.NoOpMilter
	end     func(protocol.Modifier) (*protocol.Response, error)
	refuses string // recipients that have this in their address

	mu   sync.Mutex
	seen []string // names of fields
}

func (p *program) RcptTo(to, _ string, _ protocol.Modifier) (*protocol.Response, error) {
	if p.refuses != "" && strings.Contains(to, p.refuses) {
		return protocol.RespReject, nil
	}
	return protocol.RespContinue, nil
}

func (p *program) EndOfMessage(m protocol.Modifier) (*protocol.Response, error) { return p.end(m) }

func (p *program) Header(name, _ string, _ protocol.Modifier) (*protocol.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, name)
	return protocol.RespContinue, nil
}

func startProgram(t *testing.T, end func(protocol.Modifier) (*protocol.Response, error)) (address string) {
	t.Helper()
	return (&program{end: end}).start(t)
}

func (p *program) start(t *testing.T) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := protocol.NewServer(protocol.WithMilter(func() protocol.Milter { return p }), protocol.WithActions(protocol.AllClientSupportedActionMasks))
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return ln.Addr().String()
}

func filterAt(address string) Filter {
	return Filter{Filter: milter.New(milter.Options{Name: "test", Network: "tcp", Address: address, Timeout: 5 * time.Second, Dial: new(net.Dialer).DialContext}), Outside: true}
}

func TestFilters(t *testing.T) {
	const message = "Subject: hi\r\n\r\nbody\r\n"
	say := func(r *protocol.Response, changes ...error) (*protocol.Response, error) {
		return r, errors.Join(changes...)
	}
	for _, c := range []struct {
		name   string
		end    func(protocol.Modifier) (*protocol.Response, error)
		kind   fault.Kind // of alice's result; Internal stands for none
		want   string     // in the mailbox, after the first line
		box    string
		others int // messages of bob
	}{
		{"lets it pass", func(m protocol.Modifier) (*protocol.Response, error) { return say(protocol.RespAccept) }, fault.Internal, message, "INBOX", 0},
		{"refuses", func(m protocol.Modifier) (*protocol.Response, error) { return say(protocol.RespReject) }, fault.Denied, "", "INBOX", 0},
		{"asks to come again", func(m protocol.Modifier) (*protocol.Response, error) { return say(protocol.RespTempFail) }, fault.Limited, "", "INBOX", 0},
		{"throws away", func(m protocol.Modifier) (*protocol.Response, error) { return say(protocol.RespDiscard) }, fault.Internal, "", "INBOX", 0},
		{"keeps apart", func(m protocol.Modifier) (*protocol.Response, error) {
			return say(protocol.RespAccept, m.Quarantine("odd"))
		}, fault.Internal, message, "Junk", 0},
		{"changes", func(m protocol.Modifier) (*protocol.Response, error) {
			return say(protocol.RespAccept, m.ChangeHeader(1, "Subject", "[SPAM] hi"), m.AddHeader("X-Spam", "yes"), m.ReplaceBody(strings.NewReader("gone\r\n")))
		}, fault.Internal, "Subject: [SPAM] hi\r\nX-Spam: yes\r\n\r\ngone\r\n", "INBOX", 0},
		{"only the header", func(m protocol.Modifier) (*protocol.Response, error) {
			return say(protocol.RespAccept, m.InsertHeader(0, "X-First", "1"))
		}, fault.Internal, "X-First: 1\r\nSubject: hi\r\n\r\nbody\r\n", "INBOX", 0},
		{"sends it elsewhere", func(m protocol.Modifier) (*protocol.Response, error) {
			return say(protocol.RespAccept, m.DeleteRecipient("<alice@here.test>"), m.AddRecipient("<bob@here.test>", ""))
		}, fault.Internal, "", "INBOX", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.Receiver.opt.Filters = []Filter{filterAt(startProgram(t, c.end))}
			env := envelope("ESMTP", "alice@here.test")
			results := w.Deliver(t.Context(), env, w.parcel(message))
			if len(results) != 1 || (results[0].Err == nil) != (c.kind == fault.Internal) || results[0].Err != nil && !fault.Is(results[0].Err, c.kind) {
				t.Fatalf("results %+v", results)
			}
			got := strings.Join(w.mailbox("alice", c.box), "")
			if _, text, _ := strings.Cut(got, "\r\n"); text != c.want {
				t.Errorf("alice has %q, want %q", text, c.want)
			}
			if n := len(w.inbox("bob")); n != c.others {
				t.Errorf("bob has %d messages", n)
			}
		})
	}
}

// What a filter redirects to somebody who cannot have it is not lost: the client is told.
func TestFilterRedirectsInVain(t *testing.T) {
	for _, instead := range []string{"bob@here.test", "nobody@here.test"} { // bob is over quota
		for _, dialect := range []string{"ESMTP", "LMTP"} {
			w := newWorld(t)
			w.must(w.store.Account(w.accounts["bob"].ID).Update(t.Context(), func(tx *store.Tx) error {
				tx.SetQuota(store.Quota{Bytes: 1})
				return nil
			}))
			f := filterAt(startProgram(t, func(m protocol.Modifier) (*protocol.Response, error) {
				return protocol.RespAccept, errors.Join(m.DeleteRecipient("<alice@here.test>"), m.AddRecipient("<"+instead+">", ""))
			}))
			f.LMTP = true
			w.Receiver.opt.Filters = []Filter{f}
			r := w.Deliver(t.Context(), envelope(dialect, "alice@here.test"), w.parcel(plainMessage))
			if r[0].Err == nil {
				t.Errorf("%s to %s: acknowledged, stored nowhere, queued %q", dialect, instead, w.queue.queued())
			}
		}
	}
}

// Whom a filter adds, and of whom the client hears nothing, waits if he cannot have it now: but
// only if the client is told that others have it.
func TestFilterAddsInVain(t *testing.T) {
	for _, c := range []struct{ dialect, to, queued, answer string }{
		{"LMTP", "bob@here.test", "local alice@here.test", "250"},
		{"ESMTP", "bob@here.test", "local alice@here.test", "250"},
		{"LMTP", "nobody@here.test", "", "550"},
		{"LMTP", "alice@here.test", "", "452"}, // the control: he is told of her
	} {
		w := newWorld(t)
		w.must(w.store.Account(w.accounts["alice"].ID).Update(t.Context(), func(tx *store.Tx) error {
			tx.SetQuota(store.Quota{Bytes: 1})
			return nil
		}))
		f := filterAt(startProgram(t, func(m protocol.Modifier) (*protocol.Response, error) {
			return protocol.RespAccept, m.AddRecipient("<alice@here.test>", "")
		}))
		f.LMTP = true
		w.opt.Filters = []Filter{f}
		res := w.Deliver(t.Context(), envelope(c.dialect, c.to), w.parcel(plainMessage))
		if code, _, _ := res[0].Reply(); len(res) != 1 || strconv.Itoa(code) != c.answer || w.queue.queued() != c.queued {
			t.Errorf("%s to %s: %v, queued %q", c.dialect, c.to, res, w.queue.queued())
		}
	}
}

// A header that is not quite one comes through a filter whole, and the filter sees all of it.
func TestFilterAndOddHeader(t *testing.T) {
	long := strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\r\n", 400)
	for name, text := range map[string]string{
		"a line that is no field":      "From: a@b.test\r\nthis is no field\r\nSubject: hi\r\nContent-Type: text/html\r\n\r\nbody\r\n",
		"one on top":                   "no field\r\nFrom: a@b.test\r\nContent-Type: text/html\r\n\r\nbody\r\n",
		"a space before the colon":     "From : a@b.test\r\nContent-Type : text/html\r\n\r\nbody\r\n",
		"longer than what is read":     "From: a@b.test\r\nContent-Type: text/html\r\n" + long + "Subject: hi\r\n\r\nbody\r\n",
		"that begins with white space": " odd\r\nFrom: a@b.test\r\nContent-Type: text/html\r\n\r\nbody\r\n",
	} {
		w := newWorld(t)
		p := &program{end: func(m protocol.Modifier) (*protocol.Response, error) {
			return protocol.RespAccept, m.InsertHeader(0, "X-Spam", "no")
		}}
		w.Receiver.opt.Filters = []Filter{filterAt(p.start(t))}
		w.Deliver(t.Context(), envelope("ESMTP", "alice@here.test"), w.parcel(text))
		got := strings.Join(w.inbox("alice"), "")
		if want := strings.Replace(text, "From", "X-Spam: no\r\nFrom", 1); !strings.HasSuffix(got, want) && !strings.HasSuffix(got, "X-Spam: no\r\n"+text) {
			t.Errorf("%s: %d bytes became %d: %.200q", name, len(text), len(got), got)
		}
		p.mu.Lock()
		if seen := strings.Join(p.seen, " "); !strings.Contains(seen, "Content-Type") || strings.Contains(seen, " :") {
			t.Errorf("%s: the filter saw %.200q", name, seen)
		}
		p.mu.Unlock()
	}
}

// A filter that will not take one recipient of several has him find the message in Junk; one
// that takes none refuses it.
func TestFilterRefusesRecipients(t *testing.T) {
	for _, c := range []struct {
		refuses      string
		alice, bob   int // messages in INBOX
		junk         int // and in alice's Junk
		acknowledged bool
	}{{"alice", 0, 1, 1, true}, {"@", 0, 0, 0, false}, {"nobody", 1, 1, 0, true}} {
		w := newWorld(t)
		p := &program{refuses: c.refuses, end: func(protocol.Modifier) (*protocol.Response, error) { return protocol.RespAccept, nil }}
		w.Receiver.opt.Filters = []Filter{filterAt(p.start(t))}
		r := w.Deliver(t.Context(), envelope("ESMTP", "alice@here.test", "bob@here.test"), w.parcel(plainMessage))
		if a, b, j := len(w.inbox("alice")), len(w.inbox("bob")), len(w.mailbox("alice", "Junk")); a != c.alice || b != c.bob || j != c.junk || (r[0].Err == nil) != c.acknowledged || (r[1].Err == nil) != c.acknowledged {
			t.Errorf("%q is refused: alice has %d, in Junk %d, bob %d; %v", c.refuses, a, j, b, r)
		}
	}
}

// What is to be kept apart is so for those, too, to whom the filter sends it.
func TestFilterQuarantinesAndRedirects(t *testing.T) {
	w := newWorld(t)
	w.Receiver.opt.Filters = []Filter{filterAt(startProgram(t, func(m protocol.Modifier) (*protocol.Response, error) {
		return protocol.RespAccept, errors.Join(m.Quarantine("virus"), m.DeleteRecipient("<alice@here.test>"), m.AddRecipient("<bob@here.test>", ""))
	}))}
	w.Deliver(t.Context(), envelope("ESMTP", "alice@here.test"), w.parcel(plainMessage))
	if in, junk := len(w.inbox("bob")), len(w.mailbox("bob", "Junk")); in != 0 || junk != 1 {
		t.Errorf("bob has %d messages in INBOX, %d in Junk", in, junk)
	}
}

// A filter that is away has mail wait, or pass: as it is set. Mail that it is not for never
// meets it.
func TestFilterAway(t *testing.T) {
	for _, c := range []struct {
		protocol, login string
		pass            bool
		taken           int
	}{{"ESMTP", "", false, 0}, {"ESMTP", "", true, 1}, {"LMTP", "", false, 1}, {"ESMTPSA", "bob@here.test", false, 1}, {"", "", false, 1}} {
		w := newWorld(t)
		f := filterAt("127.0.0.1:1")
		f.PassWithout = c.pass
		w.Receiver.opt.Filters = []Filter{f}
		env := envelope(c.protocol, "alice@here.test")
		env.Login = c.login
		r := w.Deliver(t.Context(), env, w.parcel(plainMessage))
		if n := len(w.inbox("alice")); n != c.taken || (r[0].Err == nil) != (n == 1) {
			t.Errorf("%+v: %d messages, %v", c, n, r)
		}
		if code, _, _ := r[0].Reply(); r[0].Err != nil && code != 451 {
			t.Errorf("%+v: answered by %d", c, code)
		}
	}
}

// Each recipient of the client has his own result, whatever filters do to the envelope. Whom a
// filter has replaced has that of the others: mail must not be lost with a good answer.
func TestInOrder(t *testing.T) {
	to := func(names ...string) (all []mail.Recipient) {
		for _, n := range names {
			all = append(all, mail.Recipient{Address: addr(n + "@here.test")})
		}
		return all
	}
	no, later := Result{Err: fault.New(fault.NotFound, "no")}, Result{Err: fault.New(fault.Limited, "later")}
	for _, c := range []struct{ had, results, want string }{
		{"abc", "+-+", "+-+"}, {"cxa", "-++", "++-"}, {"bcx", "++-", "-++"}, {"bcxy", "++-~", "~++"}, {"bcxy", "++~-", "~++"}, {"bc", "+-", "++-"}, {"", "", "+++"},
	} {
		results := map[rune]Result{'-': no, '~': later}
		var had []string
		for _, r := range c.had {
			had = append(had, string(r))
		}
		var in []Result
		for _, r := range c.results {
			in = append(in, results[r])
		}
		got := ""
		for _, r := range inOrder(to("a", "b", "c"), to(had...), in) {
			switch r.Err {
			case nil:
				got += "+"
			case no.Err:
				got += "-"
			default:
				got += "~"
			}
		}
		if got != c.want {
			t.Errorf("of %s with %s: %s, want %s", c.had, c.results, got, c.want)
		}
	}
}
