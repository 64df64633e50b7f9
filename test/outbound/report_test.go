package outbound

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/send"
	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/promise"
)

// parcel is one message of the test and the reports it must lead to.
type parcel struct {
	from    string // "alice", "" (the null sender), or "far": somebody at another host
	notify  string // what RCPT says, "" nothing
	fate    deed
	reports int  // that the sender gets
	again   bool // the host of a far sender refuses the report
}

// parcels are every kind of sender with every end, and what RFC 3461 has them ask for.
var parcels = []parcel{
	{from: "alice", fate: takes, reports: 0},
	{from: "alice", fate: refuses, reports: 1},
	{from: "alice", fate: refusesAtEnd, reports: 1},
	{from: "alice", fate: greylists, reports: 1}, // given up after its time
	{from: "alice", notify: "NEVER", fate: refuses, reports: 0},
	{from: "alice", notify: "NEVER", fate: greylists, reports: 0},
	{from: "alice", notify: "SUCCESS", fate: refuses, reports: 0},
	{from: "alice", notify: "SUCCESS", fate: takes, reports: 1}, // relayed to a host that does not report
	{from: "alice", notify: "SUCCESS,FAILURE", fate: takes, reports: 1},
	{from: "alice", notify: "FAILURE", fate: refuses, reports: 1},
	{from: "alice", notify: "FAILURE", fate: takes, reports: 0},
	{from: "", fate: takes, reports: 0},
	{from: "", fate: refuses, reports: 0},
	{from: "", fate: refusesAtEnd, reports: 0},
	{from: "", fate: greylists, reports: 0},
	{from: "", notify: "FAILURE", fate: refuses, reports: 0},
	{from: "far", fate: takes, reports: 0},
	{from: "far", fate: refuses, reports: 1},
	{from: "far", fate: refusesAtEnd, reports: 1},
	{from: "far", fate: greylists, reports: 1},
	{from: "far", fate: refuses, reports: 0, again: true}, // a report of a report there is not
	{from: "far", notify: "NEVER", fate: refuses, reports: 0},
}

// Each recipient that failed is reported once, to the sender and from nobody; the null
// sender gets none, and a report that fails leads to no other.
func TestReports(t *testing.T) {
	p := &peer{script: func(token string, _ int) deed {
		var n int
		if _, err := fmt.Sscanf(token, "t%d", &n); err == nil {
			return parcels[n].fate
		}
		if _, err := fmt.Sscanf(token, "far%d", &n); err == nil && parcels[n].again {
			return refuses
		}
		return takes
	}}
	h := house.New(t, house.Options{
		Remote: p.start(t, send.Timeouts{}),
		Queue: func(o *queue.Options) {
			o.Gaps, o.DelayAfter, o.Lifetime = []time.Duration{100 * time.Millisecond}, -1, 4*time.Second
		},
	})
	alice := h.Account(t, "alice")
	for n, c := range parcels {
		c.bring(t, h, n)
	}
	drained(t, h)
	told := map[string]int{}
	for _, report := range reports(t, h, alice) {
		if !strings.Contains(report, "Return-Path: <>\r\n") {
			t.Errorf("a report from somebody:\n%s", report)
		}
		for line := range strings.Lines(report) {
			if who, ok := strings.CutPrefix(line, "Final-Recipient: rfc822;"); ok {
				token, _, _ := strings.Cut(strings.TrimSpace(who), "@")
				told[token]++
			}
		}
	}
	got := p.all()
	for n, c := range parcels {
		has := told[fmt.Sprintf("t%d", n)]
		if c.from == "far" {
			r := got[fmt.Sprintf("far%d", n)]
			if has = r.heard; has > 0 && r.from != "<>" {
				t.Errorf("%+v: the report comes from %s", c, r.from)
			}
			if c.again && r.attempts != 1 {
				t.Errorf("%+v: the report was tried %d times", c, r.attempts)
			}
		}
		if has != c.reports {
			t.Errorf("%d, %+v: %d reports", n, c, has)
		}
	}
	promise.Kept(t, "R11", "cases", len(parcels), "reports to the null sender", 0, "recipients reported twice", 0, "reports of reports", 0)
}

// bring submits a parcel, or has somebody far away send it through an alias.
func (c parcel) bring(t *testing.T, h *house.House, n int) {
	t.Helper()
	road, from, to := "submission", "<alice@example.org>", fmt.Sprintf("<t%d@d1.test>", n)
	switch c.from {
	case "":
		from = "<>"
	case "far":
		road, from = "smtp", fmt.Sprintf("<far%d@d2.test>", n)
		alias := mail.Address{Local: fmt.Sprintf("alias%d", n), Domain: house.Domain}
		if err := h.Directory.AddAlias(t.Context(), alias, mail.Address{Local: fmt.Sprintf("t%d", n), Domain: "d1.test"}); err != nil {
			t.Fatal(err)
		}
		to = "<" + alias.String() + ">"
	}
	if c.notify != "" {
		to += " NOTIFY=" + c.notify
	}
	conn := h.Dial(t, road)
	conn.Reply()
	conn.Ask("EHLO client.example.net")
	if road == "submission" {
		conn.Ask("AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAGNvcnJlY3QgaG9yc2U=")
	}
	for _, x := range [][2]string{{"MAIL FROM:" + from, "250"}, {"RCPT TO:" + to, "250"}, {"DATA", "354"}, {"From: alice@example.org\r\nSubject: x\r\n\r\nSome words.\r\n.", "250"}} {
		if got := conn.Ask(x[0]); !strings.HasPrefix(got, x[1]) {
			t.Fatalf("%d, %+v: %s: %s", n, c, x[0], got)
		}
	}
}

// Who waits is told so once.
func TestDelayIsToldOnce(t *testing.T) {
	p := &peer{script: func(_ string, attempt int) deed {
		if attempt < 30 {
			return greylists
		}
		return takes
	}}
	h := house.New(t, house.Options{
		Remote: p.start(t, send.Timeouts{}),
		Queue: func(o *queue.Options) {
			o.Gaps, o.DelayAfter = []time.Duration{50 * time.Millisecond}, 300*time.Millisecond
		},
	})
	alice := h.Account(t, "alice")
	parcel{from: "alice"}.bring(t, h, 1)
	parcel{from: ""}.bring(t, h, 2)
	drained(t, h)
	all := reports(t, h, alice)
	if len(all) != 1 || !strings.Contains(all[0], "Action: delayed") {
		t.Errorf("%d reports: %v", len(all), all)
	}
	promise.Kept(t, "R11", "messages that waited", 2, "notices of delay, one each but for the null sender", len(all))
}
