package clients

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/smallstep/pkcs7"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

type dnsxSRV = dnsx.SRV

// noEntities refuses a document that declares anything, and one that is not XML.
func noEntities(body []byte) error {
	for d := xml.NewDecoder(bytes.NewReader(body)); ; {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Invalid, "it is not well-formed XML", err)
		}
		if _, ok := t.(xml.Directive); ok {
			return fault.New(fault.Invalid, "it has a document type, which programs refuse")
		}
	}
}

type configFile struct {
	XMLName  xml.Name `xml:"clientConfig"`
	Provider struct {
		ID       string   `xml:"id,attr"`
		Domains  []string `xml:"domain"`
		Incoming []struct {
			configServer
		} `xml:"incomingServer"`
		Outgoing []struct {
			configServer
		} `xml:"outgoingServer"`
	} `xml:"emailProvider"`
}

type configServer struct {
	Type   string   `xml:"type,attr"`
	Host   string   `xml:"hostname"`
	Port   string   `xml:"port"`
	Socket string   `xml:"socketType"`
	User   string   `xml:"username"`
	Auth   []string `xml:"authentication"`
}

// readConfig reads an autoconfig document. Strictly read, it is refused as a whole for one
// server that cannot be read, without a valid id or domain, and for servers without TLS.
func readConfig(body []byte, address string, strict bool) (all []discover.Service, err error) {
	if err := noEntities(body); err != nil {
		return nil, err
	}
	var f configFile
	if err := xml.Unmarshal(body, &f); err != nil {
		return nil, fault.Wrap(fault.Invalid, "it is no document of settings", err)
	}
	valid := 0
	for _, d := range f.Provider.Domains {
		if hostname(strings.TrimSpace(d)) {
			valid++
		}
	}
	if !hostname(f.Provider.ID) || valid == 0 {
		return nil, fault.New(fault.Invalid, "it has no valid id, or no valid domain")
	}
	servers := make([]configServer, 0, len(f.Provider.Incoming)+len(f.Provider.Outgoing))
	for _, s := range f.Provider.Incoming {
		servers = append(servers, s.configServer)
	}
	for _, s := range f.Provider.Outgoing {
		servers = append(servers, s.configServer)
	}
	for _, s := range servers {
		if strict && s.Type != "imap" && s.Type != "smtp" {
			continue // passed over before it is looked at
		}
		svc, err := s.service(address, strict)
		if err != nil && strict {
			return nil, err
		}
		if err == nil {
			all = append(all, svc)
		}
	}
	if first(all, "imap", "pop3") == nil || first(all, "smtp") == nil {
		return nil, fault.New(fault.NotFound, "it names no server to read mail from, or none to send it with, that could be used")
	}
	return all, nil
}

var socketTypes = map[string]string{"SSL": discover.TLS, "STARTTLS": discover.StartTLS, "plain": "none"}

func (s configServer) service(address string, strict bool) (discover.Service, error) {
	local, domain, _ := strings.Cut(address, "@")
	port, err := strconv.Atoi(strings.TrimSpace(s.Port))
	security, known := socketTypes[strings.TrimSpace(s.Socket)]
	password := false
	for _, a := range s.Auth {
		password = password || strings.HasPrefix(strings.TrimSpace(a), "password-")
	}
	host := strings.TrimSpace(s.Host)
	switch {
	case !hostname(host):
		err = fault.Newf(fault.Invalid, "%q is no name of a host that programs take", s.Host)
	case err != nil || port < 1 || port > 65535:
		err = fault.Newf(fault.Invalid, "%q is no port", s.Port)
	case !known || strict && security == "none":
		err = fault.Newf(fault.Invalid, "%q is no socketType that the program takes", s.Socket)
	case s.User == "":
		err = fault.New(fault.Invalid, "a server has no username")
	case !password:
		err = fault.New(fault.Invalid, "a server takes no password, and programs know no other way to sign in there")
	}
	user := strings.NewReplacer("%EMAILADDRESS%", address, "%EMAILLOCALPART%", local, "%EMAILDOMAIN%", domain).Replace(strings.TrimSpace(s.User))
	return discover.Service{Protocol: s.Type, Host: host, Port: port, Security: security, Username: user, Auth: []string{"password"}, Source: "autoconfig"}, err
}

// hostname tells whether a name is one in A-labels, with a dot or that of this machine.
func hostname(name string) bool {
	parsed, err := mail.ParseDomain(name)
	ascii := !strings.ContainsFunc(name, func(r rune) bool { return r > '~' })
	return err == nil && ascii && strings.EqualFold(parsed, name) && (strings.Contains(name, ".") || name == "localhost")
}

func poxQuestion(address string) string {
	var b strings.Builder
	b.WriteString(xml.Header + `<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>`)
	_ = xml.EscapeText(&b, []byte(address)) // a Builder takes everything
	b.WriteString(`</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema></Request></Autodiscover>`)
	return b.String()
}

type poxFile struct {
	XMLName  xml.Name `xml:"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006 Autodiscover"`
	Response struct {
		Account struct {
			Kind     string `xml:"AccountType"`
			Action   string
			Protocol []struct {
				Type, Server, LoginName, SSL, Encryption string
				Port                                     int
			}
		} `xml:"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a Account"`
		Error struct {
			ErrorCode int
			Message   string
		}
	} `xml:"Response"`
}

// readPOX reads an answer of Autodiscover as Outlook does.
func readPOX(body []byte) (all []discover.Service, err error) {
	if err := noEntities(body); err != nil {
		return nil, err
	}
	var f poxFile
	if err := xml.Unmarshal(body, &f); err != nil {
		return nil, fault.Wrap(fault.Invalid, "it is no answer of Autodiscover", err)
	}
	a := f.Response.Account
	switch {
	case f.Response.Error.ErrorCode != 0:
		return nil, fault.Newf(fault.NotFound, "it answers with error %d, %q", f.Response.Error.ErrorCode, f.Response.Error.Message)
	case a.Kind != "email" || a.Action != "settings":
		return nil, fault.Newf(fault.Invalid, "it is about %q and says %q, not settings of e-mail", a.Kind, a.Action)
	}
	for _, p := range a.Protocol {
		s := discover.Service{Protocol: strings.ToLower(p.Type), Host: p.Server, Port: p.Port, Username: p.LoginName, Security: discover.TLS, Source: "pox"}
		switch {
		case strings.EqualFold(p.Encryption, "TLS"):
			s.Security = discover.StartTLS
		case strings.EqualFold(p.SSL, "off"):
			s.Security = "none"
		}
		if hostname(s.Host) && s.Port > 0 {
			all = append(all, s)
		}
	}
	return all, nil
}

// readJSON reads where Autodiscover leads to.
func readJSON(body []byte) (string, error) {
	var f struct{ Protocol, Url, ErrorMessage string }
	if err := json.Unmarshal(body, &f); err != nil {
		return "", fault.Wrap(fault.Invalid, "it is not JSON", err)
	}
	at, err := url.Parse(f.Url)
	if err != nil || at.Scheme != "https" || at.Host == "" || !strings.EqualFold(f.Protocol, "AutodiscoverV1") {
		return "", fault.Newf(fault.Invalid, "it names no https URL of AutodiscoverV1, but %q of %q", f.Url, f.Protocol)
	}
	return at.String(), nil
}

// readPACC reads the document of draft-ietf-mailmaint-pacc, which knows TLS on the usual
// ports alone.
func readPACC(body []byte, address string) (all []discover.Service, err error) {
	var f struct {
		Protocols map[string]struct {
			Host string `json:"host"`
		} `json:"protocols"`
		Authentication struct {
			Password bool `json:"password"`
		} `json:"authentication"`
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, fault.Wrap(fault.Invalid, "it is not JSON", err)
	}
	if !f.Authentication.Password {
		return nil, fault.New(fault.Invalid, "it takes no password, and programs know no other way to sign in there")
	}
	for _, p := range []struct {
		name string
		port int
	}{{"imap", 993}, {"pop3", 995}, {"smtp", 465}} {
		if host := f.Protocols[p.name].Host; hostname(host) {
			all = append(all, discover.Service{Protocol: p.name, Host: host, Port: p.port, Security: discover.TLS, Username: address, Auth: []string{"password"}, Source: "pacc"})
		}
	}
	return all, nil
}

// readProfile reads a profile for Apple's devices, signed or not. Who has signed it is not
// looked at: devices ask their own authorities.
func readProfile(body []byte) (all []discover.Service, err error) {
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		signed, err := pkcs7.Parse(body)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "it is neither a property list nor signed", err)
		}
		if err := signed.Verify(); err != nil {
			return nil, fault.Wrap(fault.Invalid, "its signature is not that of its text", err)
		}
		body = signed.Content
	}
	values, err := readProperties(body)
	if err != nil {
		return nil, err
	}
	kind := map[string]string{"EmailTypeIMAP": "imap", "EmailTypePOP": "pop3"}[values["EmailAccountType"]]
	for _, p := range []struct{ protocol, prefix string }{{kind, "Incoming"}, {"smtp", "Outgoing"}} {
		port, _ := strconv.Atoi(values[p.prefix+"MailServerPortNumber"])
		s := discover.Service{Protocol: p.protocol, Host: values[p.prefix+"MailServerHostName"], Port: port, Username: values[p.prefix+"MailServerUsername"], Security: "none", Source: "prof"}
		if values[p.prefix+"MailServerUseSSL"] == "true" {
			s.Security = discover.TLS
			if port == 143 || port == 110 || port == 587 { // as devices do
				s.Security = discover.StartTLS
			}
		}
		if p.protocol != "" && hostname(s.Host) && port > 0 {
			all = append(all, s)
		}
	}
	return all, nil
}

// readProperties returns the keys of a property list with their values as texts; of several
// dictionaries the last counts, and the one of the account is.
func readProperties(body []byte) (map[string]string, error) {
	values, key := map[string]string{}, ""
	d := xml.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "it is no property list", err)
		}
		e, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		switch e.Name.Local {
		case "key", "string", "integer":
			var text string
			if err := d.DecodeElement(&text, &e); err != nil {
				return nil, fault.Wrap(fault.Invalid, "it is no property list", err)
			}
			if e.Name.Local == "key" {
				key = text
			} else {
				values[key] = text
			}
		case "true", "false":
			values[key] = e.Name.Local
		}
	}
}
