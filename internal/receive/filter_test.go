package receive

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	protocol "github.com/d--j/go-milter"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/milter"
)

// program is a filter that does at the end of a message what a test says.
type program struct {
	protocol.NoOpMilter
	end func(protocol.Modifier) (*protocol.Response, error)
}

func (p *program) EndOfMessage(m protocol.Modifier) (*protocol.Response, error) { return p.end(m) }

func (p *program) Header(string, string, protocol.Modifier) (*protocol.Response, error) {
	return protocol.RespContinue, nil
}

func startProgram(t *testing.T, end func(protocol.Modifier) (*protocol.Response, error)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := protocol.NewServer(protocol.WithMilter(func() protocol.Milter { return &program{end: end} }), protocol.WithActions(protocol.AllClientSupportedActionMasks))
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

// Each recipient of the client has his own result, whatever filters do to the envelope.
func TestInOrder(t *testing.T) {
	to := func(names ...string) (all []mail.Recipient) {
		for _, n := range names {
			all = append(all, mail.Recipient{Address: addr(n + "@here.test")})
		}
		return all
	}
	failed := Result{Err: fault.New(fault.NotFound, "no")}
	got := inOrder(to("a", "b", "c"), to("c", "x", "a"), []Result{failed, failed, {}})
	if len(got) != 3 || got[0].Err != nil || got[1].Err != nil || got[2].Err == nil {
		t.Errorf("%v", got)
	}
}
