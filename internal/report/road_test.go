package report_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/report"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
	"github.com/martlet-mail/martlet/internal/send"
	"github.com/martlet-mail/martlet/internal/sts"
)

// plainHost is a mail host that knows no extension at all, and counts what it takes.
func plainHost(t *testing.T) (port uint16, took *atomic.Int64) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	took = new(atomic.Int64)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go plainTalk(conn, took)
		}
	}()
	return uint16(ln.Addr().(*net.TCPAddr).Port), took
}

func plainTalk(conn net.Conn, took *atomic.Int64) {
	defer conn.Close()
	fmt.Fprint(conn, "220 mx.far.test\r\n")
	data := false
	for in := bufio.NewScanner(conn); in.Scan(); {
		line := in.Text()
		switch {
		case data && line != ".":
		case data:
			data = false
			took.Add(1)
			fmt.Fprint(conn, "250 ok\r\n")
		case strings.HasPrefix(line, "DATA"):
			data = true
			fmt.Fprint(conn, "354 go on\r\n")
		case strings.HasPrefix(line, "QUIT"):
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 mx.far.test\r\n")
		}
	}
}

// drive has the mail of a house go to a host by a courier whose sessions are counted, with a
// policy of the domain that nobody can keep.
func drive(h *house, port uint16, change func(*mail.Envelope)) (post func(mail.Envelope) send.Result) {
	courier, err := send.New(send.Options{
		Hostname: "mx.here.test", Resolver: h.opt.Resolver, Port: port, AllowPrivate: true, Now: h.clock,
		Shuffle: func(int, func(i, j int)) {}, Random: rand.Reader, Dial: new(net.Dialer).DialContext,
		STS: func(context.Context, string) (sts.Found, error) {
			return sts.Found{ID: "1", Policy: &sts.Policy{Mode: sts.Enforce, MaxAge: time.Hour, MX: []string{"mx.far.test"}}}, nil
		},
		Observed: func(o send.TLSObservation) {
			h.book.Connected(report.Session{At: o.At, Domain: o.Domain, Policy: tlsrpt.Policy{Type: o.Policy.Type, Domain: o.Domain}, Failure: tlsrpt.Failure{Result: string(o.Line.Failure)}})
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(courier.Close)
	post = func(env mail.Envelope) send.Result {
		const text = "From: postmaster@here.test\r\n\r\nhi\r\n"
		return courier.Send(h.t.Context(), env, send.Message{Size: int64(len(text)), Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(text)), nil
		}}, nil)[0]
	}
	h.opt.Mail = func(_ context.Context, _ string, env mail.Envelope, _ []byte) error {
		if change != nil {
			change(&env)
		}
		if r := post(env); r.Code != 250 {
			return fault.Newf(fault.Denied, "%d %s", r.Code, r.Text)
		}
		return nil
	}
	h.restart()
	return post
}

// A report reaches a host that knows no extension and breaks its domain's policy, and is not
// counted itself: of a day on which nothing but a report went out there is no report. With a
// deadline, or held to the policy, it would not arrive; counted, reports would have no end.
func TestReportToPlainHost(t *testing.T) {
	const zone = `far.test. MX 10 mx.far.test
mx.far.test. A 127.0.0.1
_smtp._tls.far.test. TXT "v=TLSRPTv1; rua=mailto:tls@far.test"
`
	for name, c := range map[string]struct {
		change func(*mail.Envelope)
		took   int64
		second bool // a report is owed of the second day
	}{
		"as it is":            {nil, 1, false},
		"with a deadline":     {func(e *mail.Envelope) { e.By = mail.DeliverBy{Mode: mail.ByReturn, At: midnight.Add(999 * time.Hour)} }, 0, false},
		"held to the policy":  {func(e *mail.Envelope) { e.TLSOptional = false }, 0, true},
		"counted like others": {func(e *mail.Envelope) { e.From = mail.Address{Local: "a", Domain: "here.test"} }, 1, true},
	} {
		h := newHouse(t, zone)
		port, took := plainHost(t)
		post := drive(h, port, c.change)
		ours := mail.Address{Local: "a", Domain: "here.test"}
		if r := post(mail.Envelope{From: ours, To: []mail.Recipient{{Address: mail.Address{Local: "b", Domain: "far.test"}}}}); r.Code/100 == 2 {
			t.Fatalf("%s: the policy does not count: %+v", name, r)
		}
		h.send(midnight.Add(5 * time.Hour)) // the first day's report
		h.flush()
		if n, owed := took.Load(), h.owed(); n != c.took || strings.Contains(owed, "far.test") != c.second {
			t.Errorf("%s: the host has %d, owed %q, %q", name, n, owed, h.states())
		}
		h.send(midnight.Add(29 * time.Hour)) // and the second one's
		if n := took.Load(); c.change == nil && (n != 1 || h.owed() != "") {
			t.Errorf("%s: the host has %d, owed %q", name, n, h.owed())
		}
	}
}
