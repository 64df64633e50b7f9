package smtpd

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// issuer knows a token of alice's, one that is not for mail, and one that cannot be
// checked now.
type issuer struct{}

func (issuer) Check(_ context.Context, token string) (string, error) {
	switch token {
	case "good":
		return "alice@here.test", nil
	case "narrow":
		return "", fault.New(fault.Denied, "the access token lacks the scope mail")
	case "later":
		return "", fault.New(fault.Unavailable, "access tokens cannot be checked now, try again later")
	}
	return "", fault.New(fault.Unauthenticated, "authentication failed")
}

func (issuer) Hints() sasl.Bearer { return sasl.Bearer{Scope: "mail"} }

// The exchanges of RFC 7628, 4 as submission has them.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	dir, err := directory.Open(w.ctx, w.disk, w.store, directory.Options{
		Now: time.Now, Rand: rand.Reader,
		Tokens: issuer{}, Sleep: func(context.Context, time.Duration) error { return nil },
	})
	w.must(err)
	defer dir.Close()
	o := w.options
	o.Kind, o.Directory = Submission, dir
	for _, c := range []struct{ about, mech, token, answer, challenge, reply string }{
		{"good", "OAUTHBEARER", "good", "", "", "235 2.7.0 logged in"},
		{"good", "XOAUTH2", "good", "", "", "235 2.7.0 logged in"},
		{"wrong", "OAUTHBEARER", "wrong", "AQ==", `{"status":"invalid_token","scope":"mail"}`, "535 5.7.8 authentication failed"},
		{"wrong", "XOAUTH2", "wrong", "", `{"status":"401","schemes":"bearer","scope":"mail"}`, "535 5.7.8 authentication failed"},
		{"given up", "OAUTHBEARER", "wrong", "*", `{"status":"invalid_token","scope":"mail"}`, "501 5.0.0 authentication cancelled"},
		{"not for mail", "OAUTHBEARER", "narrow", "AQ==", `{"status":"insufficient_scope","scope":"mail"}`, "535 5.7.8 the access token lacks the scope mail"},
		{"not now", "OAUTHBEARER", "later", "", "", "454 4.7.0 access tokens cannot be checked now, try again later"},
	} {
		p := &player{t: t, w: w}
		cl := &client{nc: w.connect(o, netsrv.NoTLS, "127.0.0.1")}
		cl.read()
		cl.send("EHLO c.test\r\n")
		if said := strings.Join(until(p, cl, "250 "), "\n"); !strings.Contains(said, " OAUTHBEARER XOAUTH2 ") {
			t.Errorf("announced %q", said)
		}
		first := "n,a=alice@here.test,\x01host=mx.here.test\x01port=587\x01auth=Bearer " + c.token + "\x01\x01"
		if c.mech == "XOAUTH2" {
			first = "user=alice@here.test\x01auth=Bearer " + c.token + "\x01\x01"
		}
		cl.send("AUTH " + c.mech + " " + base64.StdEncoding.EncodeToString([]byte(first)) + "\r\n")
		line, _ := cl.next(t)
		if rest, ok := strings.CutPrefix(line, "334 "); ok {
			challenge, _ := base64.StdEncoding.DecodeString(rest)
			if string(challenge) != c.challenge {
				t.Errorf("%s, %s: challenge %q", c.mech, c.about, challenge)
			}
			cl.send(c.answer + "\r\n")
			line, _ = cl.next(t)
		} else if c.challenge != "" {
			t.Errorf("%s, %s: no challenge", c.mech, c.about)
		}
		if line != c.reply {
			t.Errorf("%s, %s: %q, want %q", c.mech, c.about, line, c.reply)
		}
		cl.nc.Close()
	}
}
