package receive

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// ours is a zone in which the domains here let 198.51.100.1 alone send, and want all else
// refused; nothing.test says nothing.
const ours = `
_dmarc.too.test. TXT "v=DMARC1; p=reject"
_dmarc.here.test. TXT "v=DMARC1; p=none"
too.test. TXT "v=spf1 ip4:198.51.100.1 -all"
here.test. TXT "v=spf1 ip4:198.51.100.1 -all"
far.test. TXT "v=spf1 ip4:192.0.2.7 -all"
_dmarc.far.test. TXT "v=DMARC1; p=reject"
_dmarc.shop.test. TXT "v=DMARC1; p=quarantine"
`

func forwarding(t *testing.T, zone string) *signing {
	s := newSigning(t)
	s.checked(zone)
	s.must(s.dir.AddAlias(t.Context(), addr("fwd@too.test"), addr("carol@gmail.test")))
	return s
}

// sendOn brings a stranger's message and returns what becomes of it.
func (s *signing) sendOn(sender, author string, to ...string) []Result {
	s.queue.entries, s.queue.keys = nil, nil
	env := outside(to...)
	if env.From = (mail.Address{}); sender != "" {
		env.From = addr(sender)
	}
	return s.FromOutside(s.t.Context(), env, s.parcel("List-Id: <x>\r\nFrom: "+author+"\r\nSubject: pay\r\n\r\npay now\r\n"), []byte(received))
}

// Sent on by this host, from a domain here, a forgery would pass DMARC at the next.
func TestForgeriesAreNotSentOn(t *testing.T) {
	s := forwarding(t, ours)
	for name, c := range map[string]struct{ sender, author string }{
		"the alias's domain":          {"x@far.test", "ceo@too.test"},
		"another domain here, p=none": {"alice@here.test", "alice@here.test"},
		"sender and author":           {"ceo@too.test", "ceo@too.test"},
		"below a domain here":         {"x@far.test", "ceo@sub.too.test"},
		"no sender, which means HELO": {"", "root@mx.here.test"},
		"junk":                        {"x@far.test", "a@shop.test"},
	} {
		res := s.sendOn(c.sender, c.author, "fwd@too.test")
		if code, enhanced, text := res[0].Reply(); code != 550 || enhanced != "5.7.1" || s.queue.queued() != "" {
			t.Errorf("%s: %d %s %s, queued %q", name, code, enhanced, text, s.queue.queued())
		}
		// Who is here has it all the same.
		before := len(s.inbox("bob")) + len(s.mailbox("bob", "Junk"))
		if res := s.sendOn(c.sender, c.author, "all@too.test"); res[0].Err != nil || s.queue.queued() != "" {
			t.Errorf("%s: %v, queued %q", name, res, s.queue.queued())
		}
		if got := len(s.inbox("bob")) + len(s.mailbox("bob", "Junk")); got != before+1 {
			t.Errorf("%s: bob has %d messages more", name, got-before)
		}
	}
	for name, c := range map[string]struct{ sender, author, want string }{
		"honest":                 {"x@far.test", "x@far.test", "SRS0"},
		"no policy":              {"x@far.test", "x@nothing.test", "SRS0"},
		"a sender who is forged": {"alice@here.test", "x@nothing.test", "SRS0"},
	} {
		res := s.sendOn(c.sender, c.author, "fwd@too.test")
		if len(s.queue.entries) != 1 || res[0].Err != nil || !strings.HasPrefix(s.queue.entries[0].Envelope.From.String(), c.want) {
			t.Errorf("%s: %v, queued %+v", name, res, s.queue.entries)
		}
	}
}

// There is one answer for all recipients: if another is served, the queue refuses what is not
// sent on, and tells nobody who may not have written it.
func TestForgeryBesideOthers(t *testing.T) {
	for sender, notify := range map[string]mail.Notify{"x@nothing.test": mail.NotifyNever, "x@far.test": mail.NotifyDefault} {
		s := forwarding(t, ours)
		res := s.sendOn(sender, "ceo@too.test", "alice@here.test", "fwd@too.test")
		if res[0].Err != nil || res[1].Err != nil || s.queue.queued() != "local fwd@too.test" {
			t.Fatalf("%v, queued %q", res, s.queue.queued())
		}
		if got := s.queue.entries[0].Envelope.To[0].Notify; got != notify {
			t.Errorf("%s: reports are wanted: %v", sender, got)
		}
		again := (&Local{s.Receiver}).Deliver(t.Context(), s.queue.job(0))
		if again[0].Code != 550 || len(s.queue.entries) != 1 {
			t.Errorf("%+v, queued %q", again, s.queue.queued())
		}
	}
}

// What cannot be found out now is not refused for good.
func TestForgeryNotKnownNow(t *testing.T) {
	s := forwarding(t, "! servfail _dmarc.too.test\n! servfail too.test\n")
	res := s.sendOn("x@too.test", "ceo@too.test", "fwd@too.test")
	if code, enhanced, _ := res[0].Reply(); code != 451 || enhanced != "4.7.1" || !fault.Of(res[0].Err).Temporary() || s.queue.queued() != "" {
		t.Errorf("%d %s, queued %q", code, enhanced, s.queue.queued())
	}
}

// Nor is it where somebody else would be served, be it another recipient or one that the same
// alias leads to: the queue could not find it out any more.
func TestForgeryNotKnownNowBesideOthers(t *testing.T) {
	const unknown = "! servfail _dmarc.too.test\n! servfail too.test\n"
	for _, to := range [][]string{{"alice@here.test", "fwd@too.test"}, {"fwd@too.test", "alice@here.test"}, {"all@too.test"}} {
		s := forwarding(t, unknown)
		seen := 0
		s.opt.Observed = func(Observation) { seen++ }
		for _, res := range s.sendOn("x@too.test", "ceo@too.test", to...) {
			if code, enhanced, text := res.Reply(); code != 451 || enhanced != "4.7.1" {
				t.Errorf("to %q: %d %s %s", to, code, enhanced, text)
			}
		}
		if n := len(s.inbox("alice")) + len(s.mailbox("alice", "Junk")); n != 0 || s.queue.queued() != "" || seen != 0 {
			t.Errorf("to %q: alice has %d messages, queued %q, told of %d", to, n, s.queue.queued(), seen)
		}
		if res := s.sendOn("x@too.test", "ceo@too.test", "alice@here.test"); res[0].Err != nil { // the control
			t.Errorf("to nobody elsewhere: %v", res)
		}
	}
}

// While the directory cannot be read, nobody knows whether an author is of a domain here: that is no
// reason to refuse him for good. Who is proven needs no such answer.
func TestForgeryUnknownToDirectory(t *testing.T) {
	for author, want := range map[string]int{"x@nothing.test": 451, "x@far.test": 250, "ceo@too.test": 550} {
		s := forwarding(t, ours)
		for _, known := range []string{"fwd@too.test", "x@far.test"} { // from now on, without the disk
			_, err := s.dir.Resolve(t.Context(), addr(known))
			s.must(err)
		}
		s.eng.away = true
		res := s.sendOn("x@far.test", author, "fwd@too.test")
		if code, enhanced, text := res[0].Reply(); code != want || code == 451 && enhanced != "4.7.1" || (code == 250) != (len(s.queue.entries) == 1) {
			t.Errorf("%s: %d %s %s, queued %q", author, code, enhanced, text, s.queue.queued())
		}
		s.eng.away = false
		if res := s.sendOn("x@far.test", author, "fwd@too.test"); (res[0].Err == nil) != (want != 550) {
			t.Errorf("%s, when it is back: %v", author, res)
		}
	}
}

// An alias that cannot be looked up now waits beside a recipient who is served: what was found out
// about the message holds when it can be.
func TestForgeryWaitsForDirectory(t *testing.T) {
	for _, c := range []struct {
		author, sender string
		code           int // of the retry
		notify         mail.Notify
	}{{"alice@here.test", "x@far.test", 550, mail.NotifyDefault}, {"alice@here.test", "x@nothing.test", 550, mail.NotifyNever}, {"x@far.test", "x@far.test", 250, mail.NotifyDefault}} {
		s := forwarding(t, ours)
		_, err := s.dir.Resolve(t.Context(), addr("alice@here.test"))
		s.must(err)
		for _, known := range []string{"too.test", "far.test", "nothing.test"} {
			_, err := s.dir.IsLocal(t.Context(), known)
			s.must(err)
		}
		s.eng.away = true
		res := s.sendOn(c.sender, c.author, "alice@here.test", "fwd@too.test", "both@too.test")
		if res[1].Err != nil || res[2].Err != nil || s.queue.queued() != "local fwd@too.test, local both@too.test" {
			t.Fatalf("%+v: %v, queued %q", c, res, s.queue.queued())
		}
		waits := s.queue.entries[0].Envelope
		if waits.Junk || waits.Stays != (c.code == 550) || waits.To[0].Notify != c.notify {
			t.Errorf("%+v: waits as %+v", c, waits)
		}
		s.eng.away = false
		again := (&Local{s.Receiver}).Deliver(t.Context(), s.queue.job(0))
		if again[0].Code != c.code || (len(s.queue.entries) == 2) != (c.code == 250) {
			t.Errorf("%+v: %+v, queued %q", c, again, s.queue.queued())
		}
		if again[1].Code != 250 || len(s.inbox("bob")) != 1 { // who is here has it all the same
			t.Errorf("%+v: %+v, bob has %d", c, again, len(s.inbox("bob")))
		}
	}
}

// One of which nothing can be found out now does not wait: later it could not be found out either.
func TestForgeryUnknownWaitsForNobody(t *testing.T) {
	s := forwarding(t, "! servfail _dmarc.too.test\n! servfail too.test\n")
	_, err := s.dir.Resolve(t.Context(), addr("alice@here.test"))
	s.must(err)
	_, err = s.dir.IsLocal(t.Context(), "too.test")
	s.must(err)
	s.eng.away = true
	for _, res := range s.sendOn("x@too.test", "ceo@too.test", "alice@here.test", "fwd@too.test") {
		if code, enhanced, text := res.Reply(); code != 451 || enhanced != "4.7.1" || s.queue.queued() != "" {
			t.Errorf("%d %s %s, queued %q", code, enhanced, text, s.queue.queued())
		}
	}
}

// A report of success is owed for an alias of which a part is not sent on: to make it, the queue
// delivers once more.
func TestForgeryAndReportOfSuccess(t *testing.T) {
	s := forwarding(t, ours)
	env := outside("all@too.test")
	env.From, env.To[0].Notify = addr("x@far.test"), mail.NotifySuccess
	res := s.FromOutside(t.Context(), env, s.parcel("From: alice@here.test\r\n\r\npay\r\n"), []byte(received))
	if res[0].Err != nil || s.queue.queued() != "local all@too.test" {
		t.Fatalf("%v, queued %q", res, s.queue.queued())
	}
	again := (&Local{s.Receiver}).Deliver(t.Context(), s.queue.job(0))
	if again[0].Code != 250 || len(s.queue.entries) != 1 || len(s.inbox("alice"))+len(s.mailbox("alice", "Junk")) != 1 {
		t.Errorf("%+v, queued %q", again, s.queue.queued())
	}
}

// A report of success to a sender who may be forged is mail that its recipient did not ask
// for, from us.
func TestNoReportToForgedSender(t *testing.T) {
	for sender, want := range map[string]string{"victim@shop.test": "", "x@far.test": "local alice@here.test"} {
		for notify, left := range map[mail.Notify]mail.Notify{mail.NotifySuccess: mail.NotifyNever, mail.NotifySuccess | mail.NotifyFailure: mail.NotifyFailure} {
			s := forwarding(t, ours+"shop.test. TXT \"v=spf1 -all\"\n")
			env := outside("alice@here.test", "fwd@too.test")
			env.From = addr(sender)
			env.To[0].Notify, env.To[1].Notify = notify, notify
			s.FromOutside(t.Context(), env, s.parcel("From: a@nothing.test\r\n\r\nbuy\r\n"), []byte(received))
			var local []string
			for _, e := range s.queue.entries {
				switch to := e.Envelope.To[0]; {
				case to.Address == addr("alice@here.test"):
					local = append(local, "local alice@here.test")
				case want == "" && to.Notify != left, want != "" && to.Notify != notify:
					t.Errorf("%s: the next host is told %v", sender, to.Notify)
				}
			}
			if got := strings.Join(local, " "); got != want {
				t.Errorf("a report to %s is owed for %q", sender, got)
			}
			if env.To[0].Notify != notify {
				t.Error("the caller's envelope was changed")
			}
		}
	}
}
