package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// house is one party of the flow of mail.
type house struct {
	domain string
	send   func(from, to, message string) error
	await  func(user, what string) (string, error)
}

func houses(w *lab.Town) (all []house) {
	m := w.Martlet
	all = append(all, house{
		m.Domain,
		func(from, to, message string) error { return m.Submit(w.Client, from, to, message) },
		func(user, what string) (string, error) { return m.Await(user, "INBOX", what) },
	})
	for _, p := range []*lab.Peer{w.Postfix, w.STS, w.Exim, w.OpenSMTPD} {
		all = append(all, house{p.Domain, p.Send, p.Await})
	}
	return all
}

// Everybody writes to everybody else, by nothing but names; every message arrives, over
// TLS where it can.
func TestMailFlows(t *testing.T) {
	w := town(t)
	all := houses(w)
	subject := func(from, to house) string { return fmt.Sprintf("flow-%s-%s", from.domain, to.domain) }
	each := func(do func(t *testing.T, from, to house)) {
		for _, from := range all {
			for _, to := range all {
				if from.domain != to.domain {
					t.Run(from.domain+"_"+to.domain, func(t *testing.T) { do(t, from, to) })
				}
			}
		}
	}
	each(func(t *testing.T, from, to house) {
		sender, rcpt := "alice@"+from.domain, "bob@"+to.domain
		if err := from.send(sender, rcpt, lab.Letter(sender, rcpt, subject(from, to))); err != nil {
			t.Error(err)
		}
	})
	each(func(t *testing.T, from, to house) {
		got, err := to.await("bob", subject(from, to))
		if err != nil {
			t.Fatal(err)
		}
		// OpenSMTPD of Debian 12 offers STARTTLS and then fails at every handshake: a host such as
		// there are many, whom mail reaches in the clear.
		secret := to.domain != w.OpenSMTPD.Domain
		if last := field(got, "Received"); strings.Contains(last, "TLS") != secret {
			t.Errorf("over TLS: %t:\n%s", !secret, last)
		}
	})
}

// field returns the first field of a name, with its name.
func field(message, name string) string {
	for line := range strings.Lines(unfold(message)) {
		if len(line) > len(name) && strings.EqualFold(line[:len(name)+1], name+":") {
			return line
		}
	}
	return ""
}

// unfold returns the header with one line for each field.
func unfold(message string) string {
	head, _, _ := strings.Cut(strings.ReplaceAll(message, "\r\n", "\n"), "\n\n")
	return strings.NewReplacer("\n\t", " ", "\n ", " ").Replace(head)
}
