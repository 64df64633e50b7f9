package format

import (
	"bytes"
	"encoding/xml"
	"slices"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// clientConfig is an autoconfig document (draft-ietf-mailmaint-autoconfig, Data format). All
// programs of today read version 1.1.
type clientConfig struct {
	XMLName  xml.Name      `xml:"clientConfig"`
	Version  string        `xml:"version,attr"`
	Provider emailProvider `xml:"emailProvider"`
	OAuth    *oAuth2       `xml:"oAuth2"`
}

type emailProvider struct {
	ID        string         `xml:"id,attr"`
	Domains   []configDomain `xml:"domain"`
	Name      string         `xml:"displayName"`
	ShortName string         `xml:"displayShortName"`
	Incoming  []configServer `xml:"incomingServer"`
	Outgoing  []configServer `xml:"outgoingServer"`
	Help      *documentation `xml:"documentation"`
}

type configDomain struct {
	Purpose string `xml:"purpose,attr,omitempty"`
	Name    string `xml:",chardata"`
}

type configServer struct {
	Type   string   `xml:"type,attr"`
	Host   string   `xml:"hostname"`
	Port   int      `xml:"port"`
	Socket string   `xml:"socketType"`
	Auth   []string `xml:"authentication"`
	User   string   `xml:"username"`
}

type documentation struct {
	URL   string      `xml:"url,attr"`
	Descr description `xml:"descr"`
}

type description struct {
	Lang string `xml:"lang,attr"`
	Text string `xml:",chardata"`
}

type oAuth2 struct {
	Issuer        string `xml:"issuer"`
	Scope         string `xml:"scope"`
	Authorization string `xml:"authURL"`
	Token         string `xml:"tokenURL"`
}

var socketTypes = map[string]string{discover.TLS: "SSL", discover.StartTLS: "STARTTLS", "none": "plain"}

// Autoconfig writes an autoconfig document. Faults: NotFound if there is nothing to read mail
// from, or to send it with.
func Autoconfig(a discover.Answer, p Provider) ([]byte, error) {
	c := clientConfig{Version: "1.1", Provider: emailProvider{ID: a.Domain, Domains: []configDomain{{Name: a.Domain}}}}
	if p.MX != "" && p.MX != a.Domain {
		c.Provider.Domains = append(c.Provider.Domains, configDomain{Purpose: "mx", Name: p.MX})
	}
	c.Provider.Name = or(p.Name, or(a.Provider, a.Domain))
	c.Provider.ShortName = c.Provider.Name
	c.Provider.Incoming = append(configServers(a, "imap"), configServers(a, "pop3")...)
	c.Provider.Outgoing = configServers(a, "smtp")
	if p.Help != "" {
		c.Provider.Help = &documentation{p.Help, description{"en", "How to set up a mail program"}}
	}
	if p.OAuth != nil {
		c.OAuth = &oAuth2{p.OAuth.Issuer, p.OAuth.Scope, p.OAuth.Authorization, p.OAuth.Token}
	}
	if len(c.Provider.Incoming) == 0 || len(c.Provider.Outgoing) == 0 {
		return nil, fault.New(fault.NotFound, "there is no server to read mail from, or none to send it with")
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(c); err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

func configServers(a discover.Answer, protocol string) (all []configServer) {
	for _, s := range services(a, protocol) {
		if len(configAuth(s.Auth)) == 0 { // nobody could sign in by what the document can say
			continue
		}
		all = append(all, configServer{protocol, s.Host, s.Port, socketTypes[s.Security], configAuth(s.Auth), placeholder(a.Address, s.Username)})
	}
	return all
}

// placeholder writes a user name so that it fits others of the domain, if it is made of the
// address.
func placeholder(address, name string) string {
	local, _, ok := cutAddress(address)
	switch {
	case name == "", ok && name == address:
		return WholeAddress
	case ok && name == local:
		return LocalPart
	}
	return name
}

// authWords are autoconfig's names of the ways to sign in.
var authWords = map[string]string{
	"password": passwordWord, "app-password": passwordWord, "plain": passwordWord, "login": passwordWord,
	"cram-md5": "password-encrypted", "scram": "password-encrypted", "scram-sha-1": "password-encrypted", "scram-sha-256": "password-encrypted", "digest-md5": "password-encrypted", "apop": "password-encrypted",
	"oauth2": oauthWord, "xoauth2": oauthWord, "oauthbearer": oauthWord,
	"ntlm": "NTLM", "gssapi": "GSSAPI", "client-certificate": "TLS-client-cert", "client-address": "client-IP-address", "none": "none",
}

const (
	passwordWord = "password-cleartext"
	oauthWord    = "OAuth2"
)

// configAuth writes ways to sign in, in their order, each once. One that has no name is left
// out, never taken for a password; where nothing is known, a password is meant.
func configAuth(auth []string) (all []string) {
	if len(auth) == 0 {
		return []string{passwordWord}
	}
	for _, a := range auth {
		if word := authWords[a]; word != "" && !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	return all
}

// takesPassword tells whether people may sign in with a password.
func takesPassword(auth []string) bool {
	words := configAuth(auth)
	return slices.Contains(words, passwordWord) || slices.Contains(words, "password-encrypted")
}

// takesToken tells whether people may sign in with a token of OAuth 2.
func takesToken(auth []string) bool { return slices.Contains(configAuth(auth), oauthWord) }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
