package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// A second server of ours, in a domain of its own, has its certificates from an authority:
// one for every name that clients use. With the records that it makes itself its doctor is
// all green, too, and both servers exchange mail by DANE.
func TestASecondServer(t *testing.T) {
	w := town(t)
	authority, err := w.ACME("acme.example", lab.Place{Number: 70})
	must(t, err)
	must(t, w.DNS.AddZones(lab.Zone{Name: "wren.example"}))
	wren, err := w.World.Martlet(w.Martlet.Binary, "wren.example", lab.Place{Number: 71})
	must(t, err)
	t.Cleanup(func() { wren.Stop() })
	must(t, wren.Stop())
	conf, err := os.OpenFile(wren.Config, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = fmt.Fprintf(conf, "\n[tls.acme]\nenabled = true\ndirectory = \"https://%s:14000/dir\"\nca = %q\nemail = \"postmaster@wren.example\"\n", authority.Name, w.CA.File)
	must(t, errors.Join(err, conf.Close()))
	must(t, wren.Start())
	for _, name := range []string{"mx", "mail", "imap", "smtp", "pop", "autoconfig", "autodiscover", "mta-sts", "ua-auto-config"} {
		name += ".wren.example"
		var got *x509.Certificate
		err := lab.Wait("a certificate for "+name, 40*time.Second, func() bool {
			got = shown(w.Client, wren.IPv4.String()+":993", name)
			return got != nil && strings.Contains(got.Issuer.CommonName, "Pebble") && got.VerifyHostname(name) == nil
		})
		if err != nil {
			t.Fatalf("%v; there is %v\n%s", err, got, w.Logs(20))
		}
	}
	must(t, wren.Publish()) // the TLSA record is now another
	var all []line
	c := &clinic{w.World, wren, wren.Domain}
	green := func() bool {
		for _, l := range c.examine(t) {
			if l.Status == "fail" || l.Status == "warn" || l.Check == "acme" && l.Status != "ok" {
				return false
			}
		}
		return true
	}
	if lab.Wait("a green doctor", 10*time.Second, green) != nil {
		all = c.examine(t)
		t.Errorf("%s", strings.Join(unhealthy(all), "\n"))
	}
	submit(t, w, "bob@wren.example", "to-wren")
	if story := traced(t, w, "to-wren", `"state":"sent"`); !strings.Contains(story, "DANE") {
		t.Error(story)
	}
	got, err := wren.Await("bob", "INBOX", "to-wren")
	must(t, err)
	contains(t, sayings(got, wren.Name), "spf=pass", "dkim=pass", "dmarc=pass", "iprev=pass")
	must(t, wren.Submit(w.Client, "alice@wren.example", "bob@martlet.example", lab.Letter("alice@wren.example", "bob@martlet.example", "from-wren")))
	got, err = w.Martlet.Await("bob", "INBOX", "from-wren")
	must(t, err)
	contains(t, sayings(got, w.Martlet.Name), "spf=pass", "dkim=pass", "dmarc=pass", "iprev=pass")
	story, err := wren.AwaitTrace("from-wren", "alice@wren.example", `"state":"sent"`)
	must(t, err)
	contains(t, story, "DANE")
}

// shown is the certificate that a server shows to somebody who asks for a name, nil if it
// shows none.
func shown(from *lab.Host, address, name string) *x509.Certificate {
	c, err := from.Dial(address)
	if err != nil {
		return nil
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	s := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if s.Handshake() != nil {
		return nil
	}
	return s.ConnectionState().PeerCertificates[0]
}
