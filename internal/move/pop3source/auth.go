package pop3source

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"slices"
	"strings"

	"github.com/xdg-go/scram"

	"github.com/martlet-mail/martlet/internal/fault"
)

// mechanism is a way to sign in.
type mechanism struct {
	name  string
	token bool // it takes a token, not a password
	clear bool // who listens can use what is sent
	run   func(user string, cred Credentials) error
}

// mechanisms are tried in this order. APOP's hash is weak and the server must have the
// password in the clear: it is used only where the password would go in the clear otherwise.
func (c *client) mechanisms() []mechanism {
	sha2, sha := scram.HashGeneratorFcn(sha256.New), scram.HashGeneratorFcn(sha1.New)
	return []mechanism{
		{"OAUTHBEARER", true, true, c.oauthBearer},
		{"XOAUTH2", true, true, c.xoauth2},
		{"SCRAM-SHA-256", false, false, c.scram("SCRAM-SHA-256", sha2)},
		{"SCRAM-SHA-1", false, false, c.scram("SCRAM-SHA-1", sha)},
		{"PLAIN", false, true, c.plain},
		{"USER", false, true, c.user},
		{"APOP", false, false, c.apop},
	}
}

func (c *client) offers(m mechanism, cred Credentials) bool {
	if m.token != (cred.Token != "") || m.clear && !c.secure && !c.near && !c.opt.Insecure {
		return false
	}
	if cred.Mechanism != "" && !strings.EqualFold(cred.Mechanism, m.name) {
		return false
	}
	switch m.name {
	case "USER":
		return c.has("USER") || c.capas["SASL"] == "" // some list neither
	case "APOP":
		return c.stamp != ""
	}
	return slices.Contains(strings.Fields(strings.ToUpper(c.capas["SASL"])), m.name)
}

// login signs in. A server that refuses a proof may keep only another hash of the password:
// it is given the password once, if TLS has proven who it is.
func (c *client) login(ctx context.Context, opt Options) error {
	cred, err := opt.Credentials(ctx)
	if err != nil {
		return err
	}
	var refused error
	for _, m := range c.mechanisms() {
		if !c.offers(m, cred) || refused != nil && (!m.clear || !c.secure || c.opt.Insecure) {
			continue
		}
		err := m.run(opt.User, cred)
		if err == nil {
			return c.capa()
		}
		kind := fault.Of(err)
		if c.dead != nil || kind != fault.Denied && kind != fault.Unauthenticated {
			return err
		}
		if kind == fault.Denied { // a plain -ERR to a login says that it was refused
			err = fault.Wrap(fault.Unauthenticated, "signing in failed: "+fault.Say(err), err)
		}
		if refused != nil || m.clear {
			return err
		}
		refused = err
	}
	if refused != nil {
		return refused
	}
	return c.noWay(cred)
}

func (c *client) noWay(cred Credentials) error {
	switch {
	case !c.secure && !c.near && !c.opt.Insecure:
		return fault.New(fault.Denied, "the line to "+c.opt.Host+" is not protected: the password is not sent over it")
	case cred.Token != "":
		return fault.New(fault.Unauthenticated, c.opt.Host+" takes no OAuth token")
	}
	return fault.New(fault.Unauthenticated, c.opt.Host+" offers no way to sign in that is known here")
}

func (c *client) user(user string, cred Credentials) error {
	if _, err := c.command("USER " + user); err != nil {
		return err
	}
	_, err := c.command("PASS " + cred.Password)
	return err
}

// apop signs in by the hash of the greeting's time stamp and the password (RFC 1939, 7).
func (c *client) apop(user string, cred Credentials) error {
	sum := md5.Sum([]byte(c.stamp + cred.Password))
	_, err := c.command("APOP " + user + " " + hex.EncodeToString(sum[:]))
	return err
}

func (c *client) plain(user string, cred Credentials) error {
	return c.exchange("PLAIN", []byte("\x00"+user+"\x00"+cred.Password), nothingMore)
}

func nothingMore([]byte) ([]byte, error) {
	return nil, fault.New(fault.Invalid, "the server asks for more than the mechanism has")
}

func (c *client) xoauth2(user string, cred Credentials) error {
	return c.exchange("XOAUTH2", []byte("user="+user+"\x01auth=Bearer "+cred.Token+"\x01\x01"), func([]byte) ([]byte, error) { return []byte{}, nil })
}

func (c *client) oauthBearer(user string, cred Credentials) error {
	who := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
	return c.exchange("OAUTHBEARER", []byte("n,a="+who+",\x01auth=Bearer "+cred.Token+"\x01\x01"), func([]byte) ([]byte, error) { return []byte("\x01"), nil })
}

// maxSteps is how often a server may ask within an exchange.
const maxSteps = 8

// exchange runs AUTH (RFC 5034, 4). An initial response that makes the line too long goes
// when it is asked for.
func (c *client) exchange(name string, first []byte, step func(challenge []byte) ([]byte, error)) error {
	line, sent := "AUTH "+name, false
	if b := base64.StdEncoding.EncodeToString(first); len(line)+1+len(b) <= 250 {
		line, sent = line+" "+b, true
	}
	for n := 0; ; n++ {
		if err := c.send(line); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
		answer, err := c.line()
		if err != nil {
			return err
		}
		rest, more := strings.CutPrefix(answer, "+ ")
		if !more && answer != "+" {
			return c.over(answer)
		}
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		var reply []byte
		switch {
		case err != nil || n >= maxSteps:
			return c.lose(fault.New(fault.Invalid, c.opt.Host+" does not sign in as "+name+" has it"))
		case !sent:
			reply, sent = first, true
		default:
			reply, err = step(challenge)
		}
		if err != nil {
			return c.lose(err)
		}
		line = base64.StdEncoding.EncodeToString(reply)
	}
}

// over reads the status at the end of an exchange.
func (c *client) over(line string) error {
	if strings.HasPrefix(line, "+OK") {
		return nil
	}
	if text, ok := strings.CutPrefix(line, "-ERR"); ok {
		return refusal(c.opt.Host, strings.TrimSpace(text))
	}
	return c.lose(fault.New(fault.Invalid, c.opt.Host+" does not speak POP3"))
}

// scram signs in by SCRAM, which also proves that the server knows the password (RFC 5802, RFC 7677).
func (c *client) scram(name string, hash scram.HashGeneratorFcn) func(string, Credentials) error {
	return func(user string, cred Credentials) error {
		client, err := hash.NewClient(user, cred.Password, "")
		if err != nil {
			return fault.New(fault.Invalid, "the name or the password has characters that are not allowed")
		}
		nonce := make([]byte, 24)
		if _, err := io.ReadFull(c.opt.Random, nonce); err != nil {
			return fault.Wrap(fault.Unavailable, "signing in could not be begun", err)
		}
		conv := client.WithNonceGenerator(func() string { return base64.StdEncoding.EncodeToString(nonce) }).NewConversation()
		first, err := conv.Step("")
		if err != nil {
			return fault.Wrap(fault.Invalid, "signing in could not be begun", err)
		}
		err = c.exchange(name, []byte(first), func(challenge []byte) ([]byte, error) {
			answer, err := conv.Step(string(challenge))
			if err != nil {
				return nil, fault.Wrap(fault.Denied, c.opt.Host+" does not prove that it knows the password", err)
			}
			return []byte(answer), nil
		})
		if err == nil && (!conv.Done() || !conv.Valid()) {
			return c.lose(fault.New(fault.Denied, c.opt.Host+" does not prove that it knows the password"))
		}
		return err
	}
}
