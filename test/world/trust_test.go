package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// sayings returns what a host says of a message: all its Authentication-Results, in lower
// case and on one line.
func sayings(message, host string) string {
	var all []string
	for line := range strings.Lines(strings.ToLower(unfold(message))) {
		if rest, ok := strings.CutPrefix(line, "authentication-results: "+host); ok {
			all = append(all, strings.TrimSpace(rest))
		}
	}
	return strings.Join(all, " ")
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in:\n%s", w, text)
		}
	}
}

// OpenDKIM with OpenDMARC, Rspamd, Exim and dkimpy find our mail in order: both
// signatures, SPF and DMARC.
func TestOthersTrustUs(t *testing.T) {
	w := town(t)
	for p, want := range map[*lab.Peer][]string{
		w.Postfix: {"spf=pass", "dmarc=pass", "header.a=ed25519-sha256", "header.a=rsa-sha256"},
		w.STS:     {"spf=pass", "dmarc=pass"},
		w.Exim:    {"spf=pass", "iprev=pass", "header.a=ed25519-sha256", "header.a=rsa-sha256"},
	} {
		t.Run(p.Domain, func(t *testing.T) {
			submit(t, w, "bob@"+p.Domain, "trusted-"+p.Domain)
			got, err := p.Await("bob", "trusted-"+p.Domain)
			must(t, err)
			said := sayings(got, p.Name)
			contains(t, said, want...)
			if n := strings.Count(said, "dkim=pass"); n != 2 || strings.Contains(said, "=fail") {
				t.Errorf("%d signatures pass: %s", n, said)
			}
		})
	}
	t.Run("dkimpy", func(t *testing.T) {
		submit(t, w, "bob@smtpd.example", "trusted-dkimpy")
		got, err := w.OpenSMTPD.Await("bob", "trusted-dkimpy")
		must(t, err)
		for _, verdict := range []struct {
			message string
			good    bool
		}{{got, true}, {strings.Replace(got, "A few words", "Other words", 1), false}} {
			cmd := w.OpenSMTPD.Command("dkimverify")
			cmd.Stdin = strings.NewReader(verdict.message)
			out, err := cmd.CombinedOutput()
			if (err == nil) != verdict.good {
				t.Errorf("%v: %s", err, out)
			}
		}
	})
}

// forgery is mail from the attacker's host.
type forgery struct {
	name     string
	mailFrom string
	message  func(token string) string
	refused  bool   // at the end of the data, for good
	box      string // else where it lies
	say      string // what our results have
}

// Mail that says to be from us or from several people is refused, and what somebody else
// has signed counts only as he has signed it; and nobody can say of himself that he was
// found honest.
func TestForgeries(t *testing.T) {
	w := town(t)
	const to = "bob@martlet.example"
	letter := func(from string) func(string) string {
		return func(token string) string { return lab.Letter(from, to, token) }
	}
	with := func(field string, make func(string) string) func(string) string {
		return func(token string) string { return field + "\r\n" + make(token) }
	}
	from, genuine := "alice@postfix.example", "genuine-"+t.Name()
	must(t, w.Postfix.Send(from, to, lab.Letter(from, to, genuine)))
	got, err := w.Martlet.Await("bob", "INBOX", genuine)
	must(t, err)
	signed := got[strings.Index(got, "DKIM-Signature:"):]
	altered := func(token string) string { return strings.Replace(signed, "A few words.", "Pay at once. "+token, 1) }
	replayed := func(token string) string { return "X-Token: " + token + "\r\n" + signed }
	for _, f := range []forgery{
		{"From of ours", "mallory@evil.example", letter("alice@martlet.example"), true, "", ""},
		{"two authors", "mallory@evil.example", letter("mallory@evil.example>, <alice@postfix.example"), true, "", ""},
		// It may be from a mailing list, which changes what it sends on.
		{"signed text altered", "mallory@evil.example", altered, false, "Junk", "dmarc=fail"},
		{"results that are ours", "mallory@evil.example", with("Authentication-Results: mx.martlet.example; dmarc=pass header.from=postfix.example; spf=pass", letter("mallory@evil.example")), false, "INBOX", "spf=pass"},
		{"results in other spellings", "mallory@evil.example", with("authentication-results:\r\n (x) MX.Martlet.Example (y) 1; dmarc=pass header.from=postfix.example", letter("mallory@evil.example")), false, "INBOX", "spf=pass"},
		{"signed text sent on as it is", "mallory@evil.example", replayed, false, "INBOX", "dmarc=pass"},
		{"honest mail of the same host", "mallory@evil.example", letter("mallory@evil.example"), false, "INBOX", "spf=pass"},
	} {
		t.Run(f.name, func(t *testing.T) { f.try(t, w, to) })
	}
}

func (f forgery) try(t *testing.T, w *lab.Town, to string) {
	token := "forged-" + strings.ReplaceAll(f.name, " ", "-")
	err := w.Attacker.Send(w.Martlet.IPv4.String()+":25", f.mailFrom, to, f.message(token))
	if f.refused {
		var no *lab.Refused
		if !errors.As(err, &no) || no.Code/100 != 5 || no.After != "the message" {
			t.Errorf("not refused: %v", err)
		} else {
			t.Log(no)
		}
		return
	}
	must(t, err)
	got, err := w.Martlet.Await("bob", f.box, token)
	must(t, err)
	contains(t, sayings(got, "mx.martlet.example"), f.say)
	// The only results of our name stand at the top, and are of our making.
	head := unfold(got)
	lines := slices.DeleteFunc(strings.Split(head, "\n"), func(l string) bool {
		return !strings.HasPrefix(strings.ToLower(l), "authentication-results:") || !strings.Contains(strings.ToLower(l), "mx.martlet.example")
	})
	if len(lines) != 1 {
		t.Errorf("%d fields of results of ours:\n%s", len(lines), fmt.Sprint(lines))
	}
}

// What an alias sends on to another host is still trusted there: the sender is rewritten
// for SPF, the signature stays, and a seal says what we found (ARC). What comes back for
// the rewritten sender reaches the author.
func TestSentOn(t *testing.T) {
	w := town(t)
	_, err := w.Martlet.Do("alias", "add", "list@martlet.example", "bob@postfix.example")
	must(t, err)
	from, to := "alice@exim.example", "list@martlet.example"
	must(t, w.Exim.Send(from, to, lab.Letter(from, to, "sent-on")))
	got, err := w.Postfix.Await("bob", "sent-on")
	must(t, err)
	contains(t, sayings(got, w.Postfix.Name), "spf=pass smtp.mailfrom=martlet.example", "dkim=pass", "header.d=exim.example", "dmarc=pass")
	contains(t, field(got, "ARC-Seal"), "d=martlet.example", "cv=none")
	cmd := w.Postfix.Command("arcverify")
	cmd.Stdin = strings.NewReader(got)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("dkimpy does not find the seal in order: %v: %s", err, out)
	}
	_, err = w.Martlet.Do("alias", "add", "gone@martlet.example", "nobody@postfix.example")
	must(t, err)
	must(t, w.Exim.Send(from, "gone@martlet.example", lab.Letter(from, "gone@martlet.example", "sent-on-in-vain")))
	report, err := w.Exim.Await("alice", "sent-on-in-vain")
	must(t, err)
	contains(t, report, "nobody@postfix.example", "5.1.1", "multipart/report")
	// Nobody can use the rewritten form to send mail through us.
	for _, srs := range []string{"SRS0=AAAAAA=JS=postfix.example=bob@martlet.example", "SRS0=4WXHY4=JS=exim.example=alice@martlet.example", "SRS1=AAAA=martlet.example==AAAA=JS=postfix.example=bob@martlet.example"} {
		err := w.Attacker.Send(w.Martlet.IPv4.String()+":25", "", srs, lab.Letter("mallory@evil.example", srs, "srs-forged"))
		var no *lab.Refused
		if !errors.As(err, &no) || no.Code/100 != 5 {
			t.Errorf("%s: %v", srs, err)
		}
	}
}
