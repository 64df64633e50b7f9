package pop3d

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// issuer knows one token of alice's, and one that cannot be checked now.
type issuer struct{}

func (issuer) Check(_ context.Context, token string) (string, error) {
	switch token {
	case "good":
		return "alice@example.org", nil
	case "later":
		return "", fault.New(fault.Unavailable, "access tokens cannot be checked now, try again later")
	}
	return "", fault.New(fault.Unauthenticated, "authentication failed")
}

func (issuer) Hints() sasl.Bearer { return sasl.Bearer{} }

// Access tokens by POP3 (RFC 7628; RFC 5034, 4).
func TestTokens(t *testing.T) {
	w := newWorldWith(t, netsrv.Options{}, issuer{})
	for _, c := range []struct{ mech, token, challenge, reply string }{
		{"OAUTHBEARER", "good", "", "+OK 0 messages (0 octets)"},
		{"XOAUTH2", "good", "", "+OK 0 messages (0 octets)"},
		{"OAUTHBEARER", "wrong", `{"status":"invalid_token"}`, "-ERR [AUTH] authentication failed"},
		{"XOAUTH2", "wrong", `{"status":"401","schemes":"bearer"}`, "-ERR [AUTH] authentication failed"},
		{"XOAUTH2", "later", "", "-ERR [SYS/TEMP] access tokens cannot be checked now, try again later (*)"},
	} {
		cl := w.connect("A", false)
		cl.read()
		cl.ask(t, "CAPA")
		if capa := cl.lines(t); !strings.Contains(capa, " OAUTHBEARER XOAUTH2 ") {
			t.Errorf("CAPA is %q", capa)
		}
		first := "n,a=alice@example.org,\x01auth=Bearer " + c.token + "\x01\x01"
		if c.mech == "XOAUTH2" {
			first = "user=alice@example.org\x01auth=Bearer " + c.token + "\x01\x01"
		}
		line := cl.ask(t, "AUTH "+c.mech+" "+base64.StdEncoding.EncodeToString([]byte(first)))
		rest, challenged := strings.CutPrefix(line, "+ ")
		if challenged {
			challenge, _ := base64.StdEncoding.DecodeString(rest)
			if string(challenge) != c.challenge {
				t.Errorf("%s, %s: challenge %q", c.mech, c.token, challenge)
			}
			line = cl.ask(t, "AQ==")
		}
		if begin, any := strings.CutSuffix(c.reply, "*)"); any && strings.HasPrefix(line, begin) {
			line = c.reply // which connection it was
		}
		if line != c.reply || challenged != (c.challenge != "") {
			t.Errorf("%s, %s: %q, want %q", c.mech, c.token, line, c.reply)
		}
		cl.ask(t, "QUIT") // which gives the INBOX free before it is answered
		cl.Close()
	}
}
