package imapc

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/xdg-go/scram"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Login signs in by the best way both sides know, and then turns on what makes the
// connection better: ID, ENABLE, COMPRESS. A password or token goes in the clear only to
// this machine, or if Options.Insecure says so.
func (c *Client) Login(ctx context.Context, cred Credentials) error {
	if c.dead != nil {
		return c.dead
	}
	if !c.signed {
		if err := c.authenticate(ctx, cred); err != nil {
			return err
		}
		c.signed = true
	}
	if !c.fresh {
		if err := c.capabilities(ctx); err != nil {
			return err
		}
	}
	return c.settle(ctx)
}

// mechanism is a way to sign in.
type mechanism struct {
	name  string
	token bool // it takes a token, not a password
	clear bool // who listens can use what is sent
	run   func(context.Context, Credentials) error
}

func (c *Client) mechanisms() []mechanism {
	sha2, sha := scram.HashGeneratorFcn(sha256.New), scram.HashGeneratorFcn(sha1.New)
	return []mechanism{
		{"OAUTHBEARER", true, true, c.oauthBearer},
		{"XOAUTH2", true, true, c.xoauth2},
		{"SCRAM-SHA-256-PLUS", false, false, c.scram("SCRAM-SHA-256-PLUS", sha2)},
		{"SCRAM-SHA-1-PLUS", false, false, c.scram("SCRAM-SHA-1-PLUS", sha)},
		{"SCRAM-SHA-256", false, false, c.scram("SCRAM-SHA-256", sha2)},
		{"SCRAM-SHA-1", false, false, c.scram("SCRAM-SHA-1", sha)},
		{"PLAIN", false, true, c.plain},
		{"XLOGIN", false, true, c.saslLogin},
		{"LOGIN", false, true, c.login},
	}
}

// offers tells whether the server has a mechanism and the line is fit for it.
func (c *Client) offers(m mechanism, cred Credentials) bool {
	if m.token != (cred.Token != "") || m.clear && c.tls == nil && !c.near && !c.opt.Insecure {
		return false
	}
	if cred.Mechanism != "" && !strings.EqualFold(cred.Mechanism, m.name) {
		return false
	}
	switch m.name {
	case "LOGIN":
		return !c.Capable("LOGINDISABLED") && cred.Authz == ""
	case "XLOGIN":
		return c.Capable("AUTH=LOGIN") && cred.Authz == ""
	}
	return c.Capable("AUTH="+m.name) && (c.tls != nil || !strings.HasSuffix(m.name, "-PLUS"))
}

// authenticate tries what is offered. A server that refuses a proof (SCRAM) may still take
// the password itself, because it keeps only another hash of it: it is asked once, if TLS
// has proven who it is.
func (c *Client) authenticate(ctx context.Context, cred Credentials) error {
	var refused error
	tried := false
	c.alert = ""
	for _, m := range c.mechanisms() {
		if !c.offers(m, cred) || tried && !m.clear {
			continue
		}
		err := m.run(ctx, cred)
		if err == nil || c.dead != nil {
			return err
		}
		if refused == nil {
			refused = err
		}
		switch p := ProblemOf(err); {
		case p == Bad && !tried: // it offers what it does not know
			refused = nil
		case p != BadLogin || m.clear || c.tls == nil || c.opt.Insecure:
			return refused
		default:
			tried = true
		}
	}
	if refused != nil {
		return refused
	}
	return c.noWay(cred)
}

// noWay says why nothing could be tried.
func (c *Client) noWay(cred Credentials) error {
	switch {
	case cred.Mechanism != "" && (c.tls != nil || c.near || c.opt.Insecure):
		return problem(BadLogin, c.opt.Host+" offers no way to sign in by "+clip(clean(cred.Mechanism)), nil)
	case c.tls == nil && !c.near && !c.opt.Insecure:
		return problem(NoTLS, "the line to "+c.opt.Host+" is not protected: the password is not sent over it", nil)
	case cred.Token != "":
		return problem(BadLogin, c.opt.Host+" takes no OAuth token", nil)
	case cred.Authz != "":
		return problem(BadLogin, c.opt.Host+" offers no way to sign in for another account (PLAIN or SCRAM)", nil)
	case c.Capable("AUTH=XOAUTH2") || c.Capable("AUTH=OAUTHBEARER"):
		return problem(AppPassword, c.opt.Host+" takes no password, only OAuth", nil)
	}
	return problem(BadLogin, c.opt.Host+" offers no way to sign in that is known here", nil)
}

// exchange runs AUTHENTICATE: first goes with the command if the server allows it (RFC
// 4959), and step answers each challenge.
func (c *Client) exchange(ctx context.Context, name string, first []byte, step func(challenge []byte) ([]byte, error)) error {
	line := "AUTHENTICATE " + name
	direct := first != nil && c.Capable("SASL-IR")
	if direct {
		if line += " "; len(first) == 0 {
			line += "="
		} else {
			line += base64.StdEncoding.EncodeToString(first)
		}
	}
	c.fresh = false
	p := c.secret("AUTHENTICATE", line)
	sent := direct
	var failed error
	p.more = func() error {
		challenge, err := base64.StdEncoding.DecodeString(c.s.text64())
		var answer []byte
		switch {
		case err != nil:
			c.s.fail("a challenge is not base64")
			return nil
		case first != nil && !sent:
			answer, sent = first, true
		case failed == nil:
			answer, failed = step(challenge)
		}
		if failed != nil {
			return c.say("*")
		}
		return c.say(base64.StdEncoding.EncodeToString(answer))
	}
	err := c.wait(ctx, p)
	if failed != nil && c.dead == nil {
		return failed
	}
	return err
}

// secret is command without a trace of what is sent.
func (c *Client) secret(name, line string) *Pending {
	trace := c.opt.Trace
	c.opt.Trace = nil
	p := c.command(name, line)
	c.opt.Trace = trace
	c.trace(true, p.tag+" "+name+" ...")
	p.login = true
	return p
}

// say sends a line of an exchange.
func (c *Client) say(line string) error {
	c.w.WriteString(line + "\r\n")
	c.unsent = true
	return c.flush()
}

func (c *Client) plain(ctx context.Context, cred Credentials) error {
	return c.exchange(ctx, "PLAIN", []byte(cred.Authz+"\x00"+cred.User+"\x00"+cred.Password), nothingMore)
}

func nothingMore([]byte) ([]byte, error) {
	return nil, problem(Wrong, "the server asks for more than the mechanism has", nil)
}

// saslLogin is the mechanism LOGIN: name and password, each when asked.
func (c *Client) saslLogin(ctx context.Context, cred Credentials) error {
	answers := []string{cred.User, cred.Password}
	return c.exchange(ctx, "LOGIN", nil, func([]byte) ([]byte, error) {
		if len(answers) == 0 {
			return nothingMore(nil)
		}
		a := answers[0]
		answers = answers[1:]
		return []byte(a), nil
	})
}

// login is the command LOGIN, whose arguments may be literals that the server is to ask for.
func (c *Client) login(ctx context.Context, cred Credentials) error {
	c.fresh = false
	user, password := imap.AppendString(nil, cred.User, false, false), imap.AppendString(nil, cred.Password, false, false)
	line := "LOGIN " + string(user) + " " + string(password)
	pieces := strings.SplitAfter(line, "}\r\n")
	if user[0] == '"' && password[0] == '"' {
		pieces = []string{line}
	}
	trace := c.opt.Trace
	c.opt.Trace = nil
	p := c.start("LOGIN", pieces[0])
	c.opt.Trace = trace
	c.trace(true, p.tag+" LOGIN ...")
	if p.login = true; len(pieces) == 1 {
		c.end()
	}
	p.more = func() error {
		c.s.text()
		if pieces = pieces[1:]; len(pieces) == 0 {
			return nil
		}
		c.w.WriteString(pieces[0])
		if len(pieces) == 1 {
			c.end()
		}
		c.unsent = true
		return c.flush()
	}
	return c.wait(ctx, p)
}

// xoauth2 is Google's and Microsoft's mechanism (developers.google.com, "OAuth 2.0
// Mechanism"). What the server answers to a bad token is JSON, and an empty line is due.
func (c *Client) xoauth2(ctx context.Context, cred Credentials) error {
	return c.bearer(ctx, "XOAUTH2", "user="+cred.User+"\x01auth=Bearer "+cred.Token+"\x01\x01", "")
}

// oauthBearer is the standard's (RFC 7628, 3).
func (c *Client) oauthBearer(ctx context.Context, cred Credentials) error {
	who := cred.Authz
	if who == "" {
		who = cred.User
	}
	who = strings.NewReplacer("=", "=3D", ",", "=2C").Replace(who)
	return c.bearer(ctx, "OAUTHBEARER", "n,a="+who+",\x01auth=Bearer "+cred.Token+"\x01\x01", "\x01")
}

func (c *Client) bearer(ctx context.Context, name, first, end string) error {
	var why struct {
		Status string `json:"status"`
		Scope  string `json:"scope"`
	}
	err := c.exchange(ctx, name, []byte(first), func(challenge []byte) ([]byte, error) {
		json.Unmarshal(challenge, &why) // for the sentence only
		return []byte(end), nil
	})
	if err != nil && c.dead == nil && why.Status != "" {
		return problem(BadLogin, c.opt.Host+" refuses the token: "+clean(clip(why.Status)), err)
	}
	return err
}

// scram signs in by SCRAM, which also proves that the server knows the password (RFC 5802;
// RFC 7677), and with -PLUS that nobody sits on the line between (RFC 9266).
func (c *Client) scram(name string, hash scram.HashGeneratorFcn) func(context.Context, Credentials) error {
	return func(ctx context.Context, cred Credentials) error {
		client, err := hash.NewClient(cred.User, cred.Password, cred.Authz)
		if err != nil {
			return problem(BadLogin, "the name or the password has characters that SCRAM does not allow", err)
		}
		nonce := make([]byte, 24)
		if _, err := io.ReadFull(c.opt.Random, nonce); err != nil {
			return problem(Lost, "signing in could not be begun", err)
		}
		client = client.WithNonceGenerator(func() string { return base64.StdEncoding.EncodeToString(nonce) })
		conv := client.NewConversation()
		if strings.HasSuffix(name, "-PLUS") {
			bind, err := scram.NewTLSExporterBinding(c.tls)
			if err != nil {
				return problem(Bad, "TLS has no channel binding", err)
			}
			conv = client.NewConversationWithChannelBinding(bind)
		}
		first, err := conv.Step("")
		if err != nil {
			return problem(Lost, "signing in could not be begun", err)
		}
		err = c.exchange(ctx, name, []byte(first), func(challenge []byte) ([]byte, error) {
			answer, err := conv.Step(string(challenge))
			if err != nil && conv.Done() && !conv.Valid() && strings.HasPrefix(string(challenge), "v=") {
				return nil, problem(BadTLS, c.opt.Host+" does not prove that it knows the password", err)
			}
			if err != nil {
				return nil, problem(BadLogin, c.opt.Host+" refuses the name or the password", err)
			}
			return []byte(answer), nil
		})
		if err == nil && !conv.Valid() {
			return c.lose(problem(BadTLS, c.opt.Host+" does not prove that it knows the password", nil))
		}
		return err
	}
}

// settle turns on what makes the connection better after the login. What a server refuses
// of it is done without.
func (c *Client) settle(ctx context.Context) error {
	if err := c.compress(ctx); err != nil {
		return err
	}
	var all []*Pending
	if c.Capable("ID") && c.opt.Version != "" {
		mark := ""
		if c.opt.Mark != nil {
			m, err := c.opt.Mark()
			if err != nil {
				return err
			}
			mark = ` "` + MarkField + `" "` + m + `"`
		}
		all = append(all, c.command("ID", `ID ("name" "Martlet" "version" `, string(imap.AppendString(nil, c.opt.Version, false, false)), mark, ")"))
	}
	if enable := c.enableable(); enable != "" {
		all = append(all, c.command("ENABLE", "ENABLE", enable))
	}
	for _, p := range all {
		if err := c.wait(ctx, p); err != nil && c.dead != nil {
			return err
		}
		if p.name == "ENABLE" && p.err == nil {
			c.assume()
		}
		if e, ok := errors.AsType[*Error](p.err); ok && p.name == "ID" && c.opt.Mark != nil && e.Status == "NO" && e.Code == "CANNOT" {
			return fault.Wrap(fault.Denied, c.opt.Host+" is this server, and the mail there is this account's own: a link to itself would bring each message again and again", e)
		}
	}
	return nil
}

// enableable returns what is to be enabled, a space before each.
func (c *Client) enableable() (names string) {
	if !c.Capable("ENABLE") {
		return ""
	}
	if c.Capable("QRESYNC") {
		names += " QRESYNC"
	} else if c.Capable("CONDSTORE") {
		names += " CONDSTORE"
	}
	if c.Capable("UTF8=ACCEPT") || c.Capable("UTF8=ONLY") || c.Capable("UTF8=ALL") {
		names += " UTF8=ACCEPT"
	}
	return names
}

// assume takes ENABLE that was answered OK without ENABLED for done, as it is at iCloud:
// there QRESYNC answers as it should. UTF-8 is not assumed: names would be wrong.
func (c *Client) assume() {
	if c.Capable("QRESYNC") {
		c.qresync = true
	}
}
