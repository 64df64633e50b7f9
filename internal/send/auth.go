package send

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"strings"

	"github.com/xdg-go/scram"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// SmarthostMode says how the line to a smarthost is protected.
type SmarthostMode uint8

const (
	SmarthostStartTLS SmarthostMode = iota // port 587 by default
	SmarthostTLS                           // implicit TLS, port 465 by default
	SmarthostPlain                         // TLS if offered, port 25 by default
)

// Smarthost is a host that takes all our mail for other hosts.
type Smarthost struct {
	Host     string // name or IP address
	Port     uint16 // 0: by TLS
	TLS      SmarthostMode
	AnyCert  bool   // do not verify its certificate
	Login    string // "": no authentication
	Password string
}

func (s *Smarthost) port() uint16 {
	switch {
	case s.Port != 0:
		return s.Port
	case s.TLS == SmarthostTLS:
		return 465
	case s.TLS == SmarthostPlain:
		return 25
	}
	return 587
}

func (s *Smarthost) rule(t target) rule {
	r := rule{mode: TLSVerified, sni: serverName(t.host), names: []string{certName(t.host)}, proof: mail.ProofPKIX}
	switch {
	case s.TLS == SmarthostPlain:
		r.mode = TLSOpportunistic
	case s.AnyCert:
		r.mode = TLSRequired
	}
	return r
}

// auth proves who we are, by the best mechanism both sides know (RFC 4954). That it
// fails is a fault in the configuration and never the mail's: it is temporary.
func (s *session) auth(smart *Smarthost) error {
	offered := strings.Fields(strings.ToUpper(s.ext["AUTH"]))
	for _, m := range []struct {
		name  string
		clear bool // shows the password to whoever listens
		run   func(*Smarthost) (*smtp.Reply, error)
	}{
		{"SCRAM-SHA-256", false, s.scram(scram.HashGeneratorFcn(sha256.New))},
		{"SCRAM-SHA-1", false, s.scram(scram.HashGeneratorFcn(sha1.New))},
		{"PLAIN", true, s.plain},
		{"LOGIN", true, s.login},
	} {
		if !contains(offered, m.name) || m.clear && s.tls == "" && !s.t.addr.Addr().IsLoopback() {
			continue
		}
		rep, err := m.run(smart)
		if err != nil {
			return err
		}
		if rep.Code == 235 {
			return nil
		}
		s.dead = rep.Code == 334 // it waits for more of an exchange we have left
		r := s.softened(rep)
		r.Enhanced = "4.7.8"
		r.Text = clean("signing in as " + smart.Login + " was refused: " + r.Text)
		return r
	}
	return ours(454, "4.7.4", s.t.host+" offers no way to sign in that is known and safe here")
}

func contains(words []string, w string) bool {
	for _, o := range words {
		if o == w {
			return true
		}
	}
	return false
}

// plain signs in by PLAIN (RFC 4616).
func (s *session) plain(smart *Smarthost) (*smtp.Reply, error) {
	return s.cmd("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+smart.Login+"\x00"+smart.Password)))
}

// login signs in by LOGIN, which was never standardised: name, then password, each
// when asked.
func (s *session) login(smart *Smarthost) (rep *smtp.Reply, err error) {
	for _, line := range []string{"AUTH LOGIN", b64(smart.Login), b64(smart.Password)} {
		if rep, err = s.cmd(line); err != nil || rep.Code != 334 {
			return rep, err
		}
	}
	return rep, nil
}

// scram signs in by SCRAM, which also proves that the host knows the password
// (RFC 5802; RFC 7677).
func (s *session) scram(hash scram.HashGeneratorFcn) func(*Smarthost) (*smtp.Reply, error) {
	mech := "SCRAM-SHA-1"
	if hash().Size() == sha256.Size {
		mech = "SCRAM-SHA-256"
	}
	return func(smart *Smarthost) (*smtp.Reply, error) {
		client, err := hash.NewClient(smart.Login, smart.Password, "")
		if err != nil {
			return nil, ours(454, "4.7.8", "the smarthost's login or password has characters that are not allowed")
		}
		nonce := make([]byte, 24)
		if _, err := io.ReadFull(s.c.opt.Random, nonce); err != nil {
			return nil, ours(454, "4.7.8", "signing in could not be begun")
		}
		conv := client.WithNonceGenerator(func() string { return b64(string(nonce)) }).NewConversation()
		first, err := conv.Step("")
		if err != nil {
			return nil, ours(454, "4.7.8", "signing in could not be begun")
		}
		rep, err := s.cmd("AUTH " + mech + " " + b64(first))
		for err == nil && rep.Code == 334 {
			var challenge []byte
			if challenge, err = base64.StdEncoding.DecodeString(rep.Text()); err != nil {
				return nil, s.lost(fault.New(fault.Invalid, "challenge is not base64"))
			}
			answer, bad := conv.Step(string(challenge))
			if bad != nil {
				s.dead = true
				return nil, ours(454, "4.7.8", s.t.host+" does not prove that it knows the password")
			}
			rep, err = s.cmd(b64(answer))
		}
		if err == nil && rep.Code == 235 && !conv.Valid() {
			err = s.unproven(conv, rep)
		}
		return rep, err
	}
}

// unproven takes the host's proof from the final 235, where some hosts put it.
func (s *session) unproven(conv *scram.ClientConversation, rep *smtp.Reply) error {
	proof, err := base64.StdEncoding.DecodeString(rep.Text())
	if err == nil && !conv.Done() {
		if _, err = conv.Step(string(proof)); err == nil && conv.Valid() {
			return nil
		}
	}
	s.dead = true
	return ours(454, "4.7.8", s.t.host+" does not prove that it knows the password")
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
