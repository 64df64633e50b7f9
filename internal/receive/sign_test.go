package receive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check/arc"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/srs"
	"github.com/martlet-mail/martlet/internal/store"
)

// signing is a world that signs, and what it takes to check that.
type signing struct {
	*world
	log bytes.Buffer
}

func newSigning(t testing.TB) *signing {
	s := &signing{world: newWorld(t)}
	s.Receiver.opt.Signers = s.dir
	s.Receiver.opt.Returns = srs.New([]byte("key"), time.Now)
	s.Receiver.opt.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	return s
}

// LookupTXT is the DNS as it would be with the records that the directory has keys for.
func (s *signing) LookupTXT(ctx context.Context, name string) ([]string, dnsx.Info, error) {
	selector, domain, _ := strings.Cut(name, "._domainkey.")
	all, err := s.dir.Signers(ctx, domain)
	for _, k := range all {
		if k.Selector == selector {
			record, err := dkim.Record(k.Signer)
			return []string{record}, dnsx.Info{}, err
		}
	}
	return nil, dnsx.Info{}, errors.Join(err, fault.Wrap(fault.NotFound, "", dnsx.ErrNoName))
}

func (s *signing) message(text string) *dkim.Message {
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	return dkim.NewMessage([]byte(head+"\r\n\r\n"), func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil })
}

// verdict lists the signatures of a message: algorithm, domain and result.
func (s *signing) verdict(text string) string {
	var all []string
	for _, r := range s.message(text).Verify(s.t.Context(), dkim.NewKeys(s), dkim.VerifyOptions{Now: time.Now()}) {
		all = append(all, r.Algorithm+" "+r.Domain+" "+string(r.Status))
	}
	return strings.Join(all, ", ")
}

// text returns the message of an entry of the queue.
func (s *signing) text(e queue.Entry) string {
	r, err := e.Parcel.Open(s.t.Context(), 0, -1)
	s.must(err)
	defer r.Close()
	b, err := io.ReadAll(r)
	s.must(err)
	return string(b)
}

func submitted(from string, to ...string) mail.Envelope {
	env := envelope("ESMTPSA", to...)
	env.From, env.Login = addr(from), from
	return env
}

func letterFrom(from string) string {
	return "Received: by here.test id 1\r\nFrom: " + from + "\r\nTo: x@far.test\r\nSubject: hi\r\nDate: Sun, 1 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@here.test>\r\n\r\nbody\r\n"
}

const both = "ed25519-sha256 here.test pass, rsa-sha256 here.test pass"

// What people here send is signed by the domain of its author, if that is theirs to use: with both
// algorithms if it leaves, with the short one where it stays.
func TestSigned(t *testing.T) {
	s := newSigning(t)
	ctx := t.Context()
	s.must(s.dir.AddAlias(ctx, addr("sales@too.test"), addr("alice@here.test")))
	s.must(s.dir.AddAlias(ctx, addr("other@too.test"), addr("bob@here.test")))
	for _, c := range []struct{ name, text, login, to, want, log string }{
		{"leaves", letterFrom("alice@here.test"), "alice@here.test", "x@far.test", both, ""},
		{"a display name", letterFrom(`"A, b" <Alice@HERE.test>`), "alice@here.test", "x@far.test", both, ""},
		{"with a detail", letterFrom("alice+x@here.test"), "alice@here.test", "x@far.test", both, ""},
		{"two authors", letterFrom("alice@here.test, alice+2@here.test"), "alice@here.test", "x@far.test", both, ""},
		{"an alias of hers", letterFrom("sales@too.test"), "alice@here.test", "x@far.test", "ed25519-sha256 too.test pass, rsa-sha256 too.test pass", ""},
		{"stays", letterFrom("alice@here.test"), "alice@here.test", "bob@here.test", "ed25519-sha256 here.test pass", ""},
		{"somebody else", letterFrom("bob@here.test"), "alice@here.test", "x@far.test", "", "may not send as bob@here.test"},
		{"another's alias", letterFrom("other@too.test"), "alice@here.test", "x@far.test", "", "may not send as other@too.test"},
		{"hers and another's", letterFrom("alice@here.test, bob@here.test"), "alice@here.test", "x@far.test", "", "may not send as bob@here.test"},
		{"several domains", letterFrom("alice@here.test, sales@too.test"), "alice@here.test", "x@far.test", "", "several domains"},
		{"elsewhere", letterFrom("alice@far.test"), "alice@here.test", "x@far.test", "", ""},
		{"another behind hers", letterFrom("<alice@here.test>bob@here.test"), "alice@here.test", "x@far.test", "", "malformed"},
		{"another within hers", letterFrom("<alice@here.test bob@here.test>"), "alice@here.test", "x@far.test", "", "malformed"},
		{"open brackets", letterFrom("alice@here.test <bob@here.test"), "alice@here.test", "x@far.test", "", "malformed"},
		{"two at signs", letterFrom("alice@here.test@bob@here.test"), "alice@here.test", "x@far.test", "", "malformed"},
		{"another as her name", letterFrom("bob@here.test <alice@here.test>"), "alice@here.test", "x@far.test", "", "may not send as bob@here.test"},
		{"another, encoded", letterFrom("=?utf-8?q?bob=40here=2Etest=2C?= <alice@here.test>"), "alice@here.test", "x@far.test", "", "may not send as bob@here.test"},
		{"another behind many", letterFrom(strings.Repeat("alice@here.test,\r\n ", 1000) + "bob@here.test"), "alice@here.test", "x@far.test", "", "more than 100 authors"},
		{"no address", letterFrom("alice"), "alice@here.test", "x@far.test", "", "no address"},
		{"no From", "Subject: x\r\n\r\n", "alice@here.test", "x@far.test", "", ""},
		{"two From fields", "From: alice@here.test\r\n" + letterFrom("alice@here.test"), "alice@here.test", "x@far.test", "", "more than one From field"},
		{"an odd border", "no field\r\n" + letterFrom("alice@here.test"), "alice@here.test", "x@far.test", "", "no field"},
		{"no login", letterFrom("alice@here.test"), "", "bob@here.test", "", ""},
		{"a login that is gone", letterFrom("alice@here.test"), "gone@here.test", "x@far.test", "", "no such user"},
		{"signed before", "DKIM-Signature: v=1; a=rsa-sha256; d=here.test; s=x; h=from; bh=x; b=x\r\n" + letterFrom("alice@here.test"), "alice@here.test", "x@far.test",
			both + ", rsa-sha256 here.test permerror", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.log.Reset()
			s.queue.entries, s.queue.keys = nil, nil
			env := submitted("alice@here.test", c.to)
			env.Login = c.login
			before := len(s.inbox("bob"))
			for _, r := range s.Deliver(ctx, env, s.parcel(c.text)) {
				s.must(r.Err)
			}
			got := ""
			if c.to == "bob@here.test" {
				got = s.inbox("bob")[before]
				if !strings.HasPrefix(got, "Return-Path: <") {
					t.Errorf("no return path in front: %q", got)
				}
				_, got, _ = strings.Cut(got, "\r\n")
			} else {
				got = s.text(s.queue.entries[0])
			}
			if !strings.HasSuffix(got, c.text) || c.want != "" && !strings.HasPrefix(got, "DKIM-Signature:") {
				t.Errorf("the message is %q", got)
			}
			if got := s.verdict(got); got != c.want {
				t.Errorf("signatures: %s, want %s", got, c.want)
			}
			if c.log == "" && s.log.Len() > 0 || !strings.Contains(s.log.String(), c.log) {
				t.Errorf("the log says %q", s.log.String())
			}
		})
	}
}

// A domain that is set not to sign does not, nor does a house without keys at all.
func TestNotSigned(t *testing.T) {
	s := newSigning(t)
	s.must(s.dir.Set(t.Context(), "here.test", map[string]string{"sign": "no"}))
	deliver := func() string {
		s.queue.entries, s.queue.keys = nil, nil
		s.Deliver(t.Context(), submitted("alice@here.test", "x@far.test"), s.parcel(letterFrom("alice@here.test")))
		return s.text(s.queue.entries[0])
	}
	if got := deliver(); got != letterFrom("alice@here.test") {
		t.Errorf("%q", got)
	}
	s.must(s.dir.Set(t.Context(), "here.test", map[string]string{"sign": "yes"}))
	if got := s.verdict(deliver()); got != both {
		t.Errorf("%s", got)
	}
	for algorithm, want := range map[string]string{"ed25519": "ed25519-sha256 here.test pass", "rsa": "rsa-sha256 here.test pass", "both": both} {
		s.must(s.dir.Set(t.Context(), "here.test", map[string]string{"sign-with": algorithm}))
		if got := s.verdict(deliver()); got != want {
			t.Errorf("with %s: %s", algorithm, got)
		}
	}
	s.Receiver.opt.Signers = nil
	if got := deliver(); got != letterFrom("alice@here.test") {
		t.Errorf("%q", got)
	}
}

// What leaves with 8 bits is brought into 7 before it is signed, so that no host on the way has
// to; what cannot be is signed as it is.
func TestSignedForm(t *testing.T) {
	s := newSigning(t)
	mimed := func(header, body string) string {
		return strings.Replace(letterFrom("alice@here.test"), "\r\n\r\nbody\r\n", "\r\nMIME-Version: 1.0\r\n"+header+"\r\n\r\n"+body, 1)
	}
	german := mimed("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit", "Grüße\r\n")
	sealed := mimed("Content-Type: multipart/signed; boundary=b", "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n")
	long := mimed("Content-Type: text/html", strings.Repeat("<p>", 500)+"\r\n")
	for _, c := range []struct {
		name, text, to string
		binary, seven  bool
		has            string
	}{
		{"leaves", german, "x@far.test", false, true, "Gr=C3=BC=C3=9Fe"},
		{"stays", german, "bob@here.test", false, false, "Grüße"},
		{"sealed by its author", sealed, "x@far.test", false, false, "Grüße"},
		{"8 bits in the header", strings.Replace(german, "Subject: hi", "Subject: Grüße", 1), "x@far.test", false, false, "\r\n\r\nGrüße"},
		{"long lines", long, "x@far.test", false, true, "<p>=\r\n"},
		{"binary", mimed("Content-Type: application/x\r\nContent-Transfer-Encoding: binary", "a\nb\r\n"), "x@far.test", true, true, "base64"},
		{"plain", letterFrom("alice@here.test"), "x@far.test", false, true, "body\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.queue.entries, s.queue.keys = nil, nil
			env := submitted("alice@here.test", c.to)
			env.Binary, env.Body8Bit = c.binary, true
			before := len(s.inbox("bob"))
			for _, r := range s.Deliver(t.Context(), env, s.parcel(c.text)) {
				s.must(r.Err)
			}
			got := ""
			if c.to == "bob@here.test" {
				_, got, _ = strings.Cut(s.inbox("bob")[before], "\r\n")
			} else {
				got = s.text(s.queue.entries[0])
				if e := s.queue.entries[0].Envelope; e.Binary || e.Body8Bit && c.seven && c.name != "plain" {
					t.Errorf("the envelope says %+v", e)
				}
				if err := s.queue.entries[0].Parcel.Message(); c.seven && (err.Has8Bit || err.LongestLine > 998 || err.HasBareLF) {
					t.Error("it is not in 7 bits")
				}
			}
			if v := s.verdict(got); !strings.HasPrefix(v, "ed25519-sha256 here.test pass") {
				t.Errorf("signatures: %s", v)
			}
			if !strings.Contains(got, c.has) || !strings.Contains(got, "\r\nReceived: by here.test id 1\r\nFrom: ") {
				t.Errorf("the message is %q", got)
			}
		})
	}
}

// A message that is tried again from the queue is not signed again, and nobody gets it twice.
func TestSignedOnce(t *testing.T) {
	s := newSigning(t)
	ctx := t.Context()
	env := submitted("alice@here.test", "bob@here.test", "nobody@here.test")
	s.Deliver(ctx, env, s.parcel(letterFrom("alice@here.test")))
	s.must(s.dir.AddAlias(ctx, addr("nobody@here.test"), addr("bob@here.test"), addr("x@far.test")))
	for range 2 {
		for _, r := range (&Local{s.Receiver}).Deliver(ctx, s.queue.job(0)) {
			if r.Code != 250 {
				t.Error(r)
			}
		}
	}
	if n := len(s.inbox("bob")); n != 1 {
		t.Errorf("%d messages", n)
	}
	if got := s.verdict(s.text(s.queue.entries[1])); got != "ed25519-sha256 here.test pass" {
		t.Errorf("%s", got)
	}
}

// Reports of our own are signed by the domain that the host's name lies in.
func TestReportsAreSigned(t *testing.T) {
	s := newSigning(t)
	ctx := t.Context()
	local := &Local{s.Receiver}
	report := strings.Replace(letterFrom("Mail Delivery System <MAILER-DAEMON@mx1.here.test>"), "Received: by here.test id 1\r\n", "", 1)
	for to, want := range map[string]string{"x@far.test": both, "bob@here.test": "ed25519-sha256 here.test pass"} {
		env := envelope("", to)
		env.From = mail.Address{}
		for range 2 {
			s.must(local.Report(ctx, "report to "+to, env, strings.NewReader(report)))
		}
		got := ""
		if to == "bob@here.test" {
			_, got, _ = strings.Cut(s.inbox("bob")[0], "\r\n")
		} else {
			got = s.text(s.queue.entries[0])
		}
		if v := s.verdict(got); v != want {
			t.Errorf("%s: %s", to, v)
		}
	}
	if n := len(s.inbox("bob")); n != 1 {
		t.Errorf("%d reports", n)
	}
	env := envelope("", "bob@here.test")
	s.must(local.Report(ctx, "elsewhere", env, strings.NewReader(letterFrom("MAILER-DAEMON@mx.elsewhere.test"))))
	if _, got, _ := strings.Cut(s.inbox("bob")[1], "\r\n"); s.verdict(got) != "" {
		t.Error("a report in the name of a foreign domain was signed")
	}
}

// Without keys a message goes as it is, and the log says so; one whose body cannot be read goes
// nowhere, and the client is asked to try again.
func TestSigningFails(t *testing.T) {
	s := newSigning(t)
	big := strings.Replace(letterFrom("alice@here.test"), "body", strings.Repeat("0123456789 ", 5000), 1)
	gone := s.parcel(big)
	if ok, err := s.eng.Blobs().Delete(t.Context(), gone.Blob(), time.Now().Add(time.Hour)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	res := s.Deliver(t.Context(), submitted("alice@here.test", "x@far.test"), gone)
	if res[0].Err == nil || !fault.Of(res[0].Err).Temporary() || len(s.queue.entries) > 0 {
		t.Errorf("no body: %+v, %s", res, s.queue.queued())
	}
	s.Receiver.opt.Signers = failingSigners{}
	res = s.Deliver(t.Context(), submitted("alice@here.test", "x@far.test"), s.parcel(letterFrom("alice@here.test")))
	if res[0].Err != nil || len(s.queue.entries) != 1 || !strings.Contains(s.log.String(), "no keys today") {
		t.Errorf("no keys to be had: %v, %q", res, s.log.String())
	}
}

type failingSigners struct{}

func (failingSigners) Signers(context.Context, string) ([]directory.SigningKey, error) {
	return nil, fault.New(fault.Unavailable, "no keys today")
}

// A stranger's message that an alias sends on leaves with a sender of the alias's domain, to which
// reports come back; it is sealed if it was looked at as it came in.
func TestSentOn(t *testing.T) {
	s := newSigning(t)
	ctx := t.Context()
	s.must(s.dir.AddAlias(ctx, addr("also@here.test"), addr("dave@far.test")))
	text := letterFrom("Ann <ann@example.org>")
	stranger := func(from string, to ...string) []queue.Entry {
		s.queue.entries, s.queue.keys = nil, nil
		env := envelope("ESMTP", to...)
		if env.From = (mail.Address{}); from != "" {
			env.From = addr(from)
		}
		for _, r := range s.Deliver(ctx, env, s.parcel(text)) {
			s.must(r.Err)
		}
		return s.queue.entries
	}
	entries := stranger("ann@example.org", "all@too.test", "also@here.test")
	if len(entries) != 2 || entries[0].Envelope.From.Domain != "too.test" || entries[1].Envelope.From.Domain != "here.test" {
		t.Fatalf("%+v", entries)
	}
	for _, e := range entries {
		if s.text(e) != text {
			t.Errorf("the message was changed: %q", s.text(e))
		}
		sender := e.Envelope.From
		// Only reports come back by it, not all kinds of mail, and not to others.
		if local, _, err := s.Check(ctx, mail.Address{}, sender); !local || err != nil {
			t.Errorf("%s: a report is refused: %v", sender, err)
		}
		if _, _, err := s.Check(ctx, addr("eve@far.test"), sender); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: mail with a sender is taken: %v", sender, err)
		}
		forged := sender
		forged.Local = strings.Replace(forged.Local, "=ann", "=bob", 1)
		if _, _, err := s.Check(ctx, mail.Address{}, forged); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", forged, err)
		}
		back := stranger("", sender.String())
		if len(back) != 1 || back[0].Envelope.To[0].Address != addr("ann@example.org") || !back[0].Envelope.From.IsZero() {
			t.Errorf("%s leads to %+v", sender, back)
		}
		s.must((&Local{s.Receiver}).Report(ctx, "about "+sender.String(), mail.Envelope{To: []mail.Recipient{{Address: sender}}}, strings.NewReader("Subject: undelivered\r\n\r\n")))
		if got := s.queue.queued(); !strings.HasSuffix(got, "ann@example.org (rfc822;"+sender.String()+")") {
			t.Errorf("the report went to %s", got)
		}
	}
	for name, c := range map[string]struct{ from, to, want string }{
		"of somebody here":    {"alice@here.test", "all@too.test", "alice@here.test"},
		"of nobody":           {"", "all@too.test", ""},
		"too long":            {strings.Repeat("x", 60) + "@example.org", "all@too.test", strings.Repeat("x", 60) + "@example.org"},
		"to the host's alias": {"ann@example.org", "all@too.test", "SRS0"},
	} {
		if got := stranger(c.from, c.to)[0].Envelope.From.String(); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// What was found out about a message is sealed for those it is sent on to, and for nobody else.
func TestSealed(t *testing.T) {
	s := newSigning(t)
	env := envelope("ESMTP", "all@too.test")
	msg := s.parcel(letterFrom("Ann <ann@example.org>"))
	seal := func(msg *store.Parcel, chain arc.Result) string {
		s.queue.entries, s.queue.keys = nil, nil
		p := s.way(t.Context(), env, msg, findings{found: &Assessment{Results: "here.test; spf=pass smtp.mailfrom=example.org", Chain: chain}})
		s.carry(t.Context(), env, p, msg, keyOf(msg), false)
		return s.text(s.queue.entries[0])
	}
	check := func(text string) arc.Result {
		return arc.Verify(t.Context(), s.message(text), dkim.NewKeys(s), time.Now())
	}
	once := seal(msg, arc.Result{Status: arc.None})
	r := check(once)
	if r.Status != arc.Pass || len(r.Sets) != 1 || r.Sets[0].Domain != "too.test" || r.Sets[0].Results != "here.test; spf=pass smtp.mailfrom=example.org" {
		t.Errorf("%+v\n%s", r, once)
	}
	if r := check(seal(s.parcel(once), r)); r.Status != arc.Pass || len(r.Sets) != 2 {
		t.Errorf("%+v", r)
	}
	for _, text := range s.inbox("alice") {
		if strings.Contains(text[:strings.Index(text, "Received")], "ARC-Seal: i=2") {
			t.Error("a mailbox here got a seal")
		}
	}
}
