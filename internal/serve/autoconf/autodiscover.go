package autoconf

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// What a request of Autodiscover may have; programs send some 500 bytes.
const (
	maxQuestion = 16 << 10 // bytes
	maxElements = 64
	maxDepth    = 8
)

// Schemas of [MS-OXDSCLI], 2.2.
const (
	schemaFrame   = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
	schemaOutlook = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
)

// question is a request of Autodiscover ([MS-OXDSCLI], 2.2.3).
type question struct {
	Address string // EMailAddress
	Schema  string // AcceptableResponseSchema
}

// readQuestion reads a request. Nothing is declared in one, so what has a declaration of
// entities is refused.
func readQuestion(body []byte) (q question, err error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	var path []string
	for elements := 0; ; {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return question{}, fault.Wrap(fault.Invalid, "the request is not well-formed XML", err)
		}
		switch t := t.(type) {
		case xml.Directive:
			return question{}, fault.New(fault.Invalid, "a request has no document type")
		case xml.StartElement:
			path = append(path, t.Name.Local)
			if elements++; elements > maxElements || len(path) > maxDepth {
				return question{}, fault.New(fault.TooLarge, "the request has too many elements")
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			q.take(path, t)
		}
	}
	q.Address, q.Schema = strings.TrimSpace(q.Address), strings.TrimSpace(q.Schema)
	return q, nil
}

// take takes the text of an element.
func (q *question) take(path []string, text []byte) {
	if len(path) != 3 || path[0] != "Autodiscover" || path[1] != "Request" {
		return
	}
	switch path[2] {
	case "EMailAddress":
		q.Address += string(text)
	case "AcceptableResponseSchema":
		q.Schema += string(text)
	}
}

// Error codes of [MS-OXDSCLI], 2.2.4.1.1.1.
const (
	codeNotFound = 500 // the address
	codeInvalid  = 600 // the request
	codeSchema   = 601 // is not offered here
)

// autodiscover answers Outlook (POX). It asks for no password: settings are no secret, and a
// program that is asked sends one to whoever claims to be us.
func (s *Server) autodiscover(w http.ResponseWriter, r *http.Request, _ string) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.giveError(w, codeInvalid, "Invalid Request: send a request by POST, or look at "+s.opt.Web+"/account")
		return
	case http.MethodPost:
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		say(w, http.StatusMethodNotAllowed, "use POST")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		say(w, http.StatusRequestEntityTooLarge, "the request is too long or was cut short")
		return
	}
	q, err := readQuestion(body)
	if err != nil {
		s.giveError(w, codeInvalid, "Invalid Request: "+fault.Say(err))
		return
	}
	if q.Schema != "" && !strings.EqualFold(q.Schema, schemaOutlook) {
		s.giveError(w, codeSchema, "Provider is not available")
		return
	}
	address, domain := canonical(q.Address)
	here, err := s.local(r.Context(), domain)
	switch {
	case err != nil:
		s.opt.Log.Warn("settings not told", "err", err)
		say(w, http.StatusServiceUnavailable, "the settings cannot be read now")
	case address == "":
		s.giveError(w, codeInvalid, "Invalid Request: no e-mail address")
	case !here:
		s.giveError(w, codeNotFound, "The e-mail address is of no domain of this server")
	default:
		s.giveXML(w, "private, max-age=3600", outlookAnswer(s.answer(domain), address))
	}
}

// canonical returns an address with its domain in A-labels, and this; "" if it is none.
func canonical(text string) (address, domain string) {
	a, err := mail.ParseAddress(text)
	if err != nil {
		return "", ""
	}
	if domain, err = dnsx.ASCII(a.Domain); err != nil {
		return "", ""
	}
	a.Domain = domain
	return a.String(), domain
}

// outlook is an answer ([MS-OXDSCLI], 2.2.4).
type outlook struct {
	XMLName  xml.Name `xml:"Autodiscover"`
	NS       string   `xml:"xmlns,attr"`
	Response outlookResponse
}

type outlookResponse struct {
	NS      string          `xml:"xmlns,attr,omitempty"`
	User    *outlookUser    `xml:",omitempty"`
	Account *outlookAccount `xml:",omitempty"`
	Error   *outlookError   `xml:",omitempty"`
}

type outlookUser struct{ DisplayName string }

type outlookAccount struct {
	AccountType, Action string
	Protocol            []outlookProtocol
}

type outlookProtocol struct {
	Type           string
	TTL            int
	Server         string
	Port           int
	DomainRequired string
	LoginName      string
	SPA, SSL       string
	Encryption     string `xml:",omitempty"`
	AuthRequired   string
	UsePOPAuth     string `xml:",omitempty"`
	SMTPLast       string `xml:",omitempty"`
}

type outlookError struct {
	Time      string `xml:",attr"`
	ID        string `xml:"Id,attr"`
	ErrorCode int
	Message   string
	DebugData struct{}
}

// outlookAnswer tells the best service of each kind. SPA is Microsoft's name for NTLM.
func outlookAnswer(a discover.Answer, address string) outlook {
	account := outlookAccount{AccountType: "email", Action: "settings"}
	told := map[string]bool{}
	for _, s := range a.Services {
		if told[s.Protocol] {
			continue
		}
		told[s.Protocol] = true
		p := outlookProtocol{
			Type: strings.ToUpper(s.Protocol), TTL: 24, Server: s.Host, Port: s.Port, DomainRequired: "off", LoginName: address,
			SPA: "off", SSL: "on", AuthRequired: "on", Encryption: map[string]string{discover.TLS: "SSL", discover.StartTLS: "TLS", "none": "None"}[s.Security],
		}
		if s.Security == "none" {
			p.SSL = "off"
		}
		if s.Protocol == "smtp" {
			p.UsePOPAuth, p.SMTPLast = "on", "off"
		}
		account.Protocol = append(account.Protocol, p)
	}
	return outlook{NS: schemaFrame, Response: outlookResponse{NS: schemaOutlook, User: &outlookUser{address}, Account: &account}}
}

func (s *Server) giveError(w http.ResponseWriter, code int, text string) {
	at := s.opt.Now().UTC().Format("15:04:05.0000000")
	s.giveXML(w, "no-store", outlook{NS: schemaFrame, Response: outlookResponse{Error: &outlookError{Time: at, ID: "1", ErrorCode: code, Message: text}}})
}

func (s *Server) giveXML(w http.ResponseWriter, cache string, v any) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(v); err != nil {
		s.opt.Log.Error("an answer cannot be written", "err", err)
		say(w, http.StatusInternalServerError, "internal error, it has been logged")
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Cache-Control", cache)
	_, _ = w.Write(b.Bytes())
}

// autodiscoverJSON tells where a protocol is asked for (version 2 of Autodiscover). Only the
// older version of itself is here.
func (s *Server) autodiscoverJSON(w http.ResponseWriter, r *http.Request, _ string) {
	protocol := ""
	for key, values := range r.URL.Query() {
		if strings.EqualFold(key, "Protocol") && len(values) > 0 {
			protocol = values[0]
		}
	}
	switch {
	case protocol == "":
		giveJSON(w, http.StatusBadRequest, map[string]string{"ErrorCode": "MandatoryParameterMissing", "ErrorMessage": "A valid value must be provided for the query parameter 'Protocol'."})
	case !strings.EqualFold(protocol, "AutodiscoverV1") || s.opt.Web == "":
		giveJSON(w, http.StatusBadRequest, map[string]string{"ErrorCode": "InvalidProtocol", "ErrorMessage": "The given protocol value is invalid. Supported values are 'AutodiscoverV1'."})
	default:
		giveJSON(w, http.StatusOK, struct{ Protocol, Url string }{"AutodiscoverV1", s.opt.Web + "/autodiscover/autodiscover.xml"})
	}
}

func giveJSON(w http.ResponseWriter, status int, v any) {
	body, _ := json.Marshal(v) // these are strings
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	cache := "public, max-age=3600"
	if status != http.StatusOK {
		cache = "no-store"
	}
	w.Header().Set("Cache-Control", cache)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
