package format

import (
	"bytes"
	"encoding/json"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// agentConfiguration is the document of draft-ietf-mailmaint-pacc.
type agentConfiguration struct {
	Protocols      agentProtocols      `json:"protocols"`
	Authentication agentAuthentication `json:"authentication"`
	Info           agentInfo           `json:"info"`
}

type agentProtocols struct {
	IMAP   *agentHost `json:"imap,omitempty"`
	POP3   *agentHost `json:"pop3,omitempty"`
	SMTP   *agentHost `json:"smtp,omitempty"`   // up to draft 02
	Submit *agentHost `json:"submit,omitempty"` // since draft 03, the same
}

type agentHost struct {
	Host string `json:"host"`
}

type agentAuthentication struct {
	Password bool         `json:"password"`
	OAuth    *agentIssuer `json:"oauth-public,omitempty"`
}

type agentIssuer struct {
	Issuer string `json:"issuer"`
}

type agentInfo struct {
	Provider agentProvider `json:"provider"`
	Help     *agentHelp    `json:"help,omitempty"`
}

type agentProvider struct {
	Name      string `json:"name"`
	ShortName string `json:"shortName"`
}

type agentHelp struct {
	Documentation string `json:"documentation"`
}

// The ports that the document means, all with TLS from the first byte.
var agentPorts = map[string]int{"imap": 993, "pop3": 995, "smtp": 465}

// PACC writes the document of draft-ietf-mailmaint-pacc: the same bytes for the same answer,
// since their digest is in the DNS. Readers leave out what they do not know, so sending is there by
// both its names. It cannot tell ports, so only services on the usual ones
// with TLS are in it. Faults: NotFound if there is none to read mail from, or to send it with.
func PACC(a discover.Answer, p Provider) ([]byte, error) {
	var c agentConfiguration
	hosts := map[string]**agentHost{"imap": &c.Protocols.IMAP, "pop3": &c.Protocols.POP3, "smtp": &c.Protocols.SMTP}
	for _, s := range a.Services {
		at := hosts[s.Protocol]
		if at == nil || *at != nil || s.Port != agentPorts[s.Protocol] || s.Security != discover.TLS {
			continue
		}
		*at = &agentHost{s.Host}
		c.Authentication.Password = c.Authentication.Password || takesPassword(s.Auth)
		if p.OAuth != nil && takesToken(s.Auth) {
			c.Authentication.OAuth = &agentIssuer{p.OAuth.Issuer}
		}
	}
	if c.Protocols.IMAP == nil && c.Protocols.POP3 == nil || c.Protocols.SMTP == nil {
		return nil, fault.New(fault.NotFound, "the document can only tell of IMAP or POP3 and SMTP with TLS on the ports 993, 995 and 465, and these are not there")
	}
	c.Protocols.Submit = c.Protocols.SMTP
	name := or(p.Name, or(a.Provider, a.Domain))
	c.Info.Provider = agentProvider{name, name}
	if p.Help != "" {
		c.Info.Help = &agentHelp{p.Help}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	return b.Bytes(), nil
}
