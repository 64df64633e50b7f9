package send

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// What hosts are told of deadlines and priorities, and whom a message with a deadline is
// not given to (RFC 2852, 4.1.4; RFC 6710, 4.2).
func TestAsk(t *testing.T) {
	by := func(mode mail.ByMode, d time.Duration, trace bool) mail.Envelope {
		env := envelope("s@martlet.test", "a@example.org")
		env.By = mail.DeliverBy{Mode: mode, At: time.Now().Add(d + 500*time.Millisecond), Trace: trace}
		return env
	}
	urgent := envelope("s@martlet.test", "a@example.org")
	urgent.Priority = -4
	asked := by(mail.ByNotify, time.Hour, false)
	asked.To[0].Notify = mail.NotifySuccess
	for _, tc := range []struct {
		name       string
		ext        []string
		env        mail.Envelope
		want       string
		mail, rcpt string
		inTime     bool
	}{
		{"priority", []string{"MT-PRIORITY"}, urgent, "250", " MT-PRIORITY=-4", "", false},
		{"priority that is not known there", nil, urgent, "250", "", "", false},
		{"no priority", []string{"MT-PRIORITY"}, envelope("s@martlet.test", "a@example.org"), "250", "", "", false},
		{"R", []string{"DELIVERBY"}, by(mail.ByReturn, time.Hour, true), "250", " BY=3600;RT", "", true},
		{"R, with a least time", []string{"DELIVERBY 3600"}, by(mail.ByReturn, time.Hour, false), "250", " BY=3600;R", "", true},
		{"R, too little is left", []string{"DELIVERBY 3700"}, by(mail.ByReturn, time.Hour, false), "550 5.3.3", "none", "", false},
		{"R, not known", nil, by(mail.ByReturn, time.Hour, false), "550 5.3.3", "none", "", false},
		{"N", []string{"DELIVERBY 7200"}, by(mail.ByNotify, time.Hour, false), "250", " BY=3600;N", "", true},
		{"N, past", []string{"DELIVERBY"}, by(mail.ByNotify, -time.Hour, false), "250", " BY=-3599;N", "", true},
		{"N, not known", []string{"DSN"}, by(mail.ByNotify, time.Hour, false), "250", "", " NOTIFY=FAILURE,DELAY", false},
		{"N, not known, with wishes", []string{"DSN"}, asked, "250", "", " NOTIFY=SUCCESS,DELAY", false},
	} {
		p := &peer{ext: tc.ext}
		c := courier(t, peers(t, p), oneHost, nil)
		got := c.Send(t.Context(), tc.env, text("x\r\n"), nil)[0]
		if !strings.HasPrefix(fmt.Sprint(got.Code, " ", got.Enhanced), tc.want) || got.InTime != tc.inTime {
			t.Errorf("%s: %+v", tc.name, got)
		}
		want := []string{"MAIL FROM:<s@martlet.test>" + tc.mail}
		if tc.mail == "none" {
			want = nil
		}
		if said := p.commands("MAIL"); fmt.Sprint(said) != fmt.Sprint(want) {
			t.Errorf("%s: %q", tc.name, said)
		}
		if said := p.commands("RCPT"); tc.mail != "none" && fmt.Sprint(said) != "[RCPT TO:<a@example.org>"+tc.rcpt+"]" {
			t.Errorf("%s: %q", tc.name, said)
		}
	}
}

// A host that knows DELIVERBY takes what the one before it could not.
func TestDeadlineAtNextHost(t *testing.T) {
	env := envelope("s@martlet.test", "a@example.org")
	env.By = mail.DeliverBy{Mode: mail.ByReturn, At: time.Now().Add(time.Hour)}
	first, second := &peer{}, &peer{ext: []string{"DELIVERBY"}}
	c := courier(t, peers(t, first, second), twoHosts, nil)
	if got := c.Send(t.Context(), env, text("x\r\n"), nil)[0]; got.Code != 250 {
		t.Errorf("%+v", got)
	}
	if first.count("MAIL") != 0 || second.count("MAIL") != 1 {
		t.Errorf("%d and %d messages", first.count("MAIL"), second.count("MAIL"))
	}
}
