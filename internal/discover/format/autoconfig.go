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

// configAuth writes ways to sign in, in their order, each once.
func configAuth(auth []string) (all []string) {
	for _, a := range auth {
		word := "password-cleartext"
		switch a {
		case "oauth2", "xoauth2", "oauthbearer":
			word = "OAuth2"
		case "cram-md5", "scram", "digest-md5":
			word = "password-encrypted"
		}
		if !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	if len(all) == 0 {
		all = []string{"password-cleartext"}
	}
	return all
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
