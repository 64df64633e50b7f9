package discover

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// Autodiscover is asked with the address alone, by people who never sign in: what wants a
// password is given up ([MS-OXDSCLI]).

// outlook asks all places at once, and takes the first answer in their order.
func (h *hunt) outlook(ctx context.Context, s *step) (found, error) {
	d := h.who.Domain
	ways := []func(context.Context) (found, error){
		h.autodiscoverJSON,
		func(ctx context.Context) (found, error) {
			return h.pox(ctx, "https://autodiscover."+d+"/autodiscover/autodiscover.xml", false)
		},
		func(ctx context.Context) (found, error) {
			return h.pox(ctx, "https://"+d+"/autodiscover/autodiscover.xml", false)
		},
		h.autodiscoverRedirect,
		h.autodiscoverSRV,
	}
	return h.firstOf(ctx, s, ways)
}

// mailbox is the address that is asked about.
func (h *hunt) mailbox() string {
	if h.who.Address != "" {
		return h.who.Address
	}
	return "postmaster@" + h.who.Domain
}

// autodiscoverJSON asks version 2 where version 1 is.
func (h *hunt) autodiscoverJSON(ctx context.Context) (found, error) {
	at := "https://autodiscover." + h.who.Domain + "/autodiscover/autodiscover.json?Protocol=AutodiscoverV1&Email=" + url.QueryEscape(h.mailbox())
	d, err := h.fetch(ctx, request{url: at})
	if err != nil {
		return found{}, err
	}
	next, err := parseAutodiscoverJSON(d.body)
	if err != nil {
		return found{}, err
	}
	return h.pox(ctx, next, d.foreign)
}

// parseAutodiscoverJSON returns an https URL.
func parseAutodiscoverJSON(body []byte) (string, error) {
	var doc struct{ Protocol, URL string }
	if json.Unmarshal(body, &doc) != nil || !strings.EqualFold(doc.Protocol, "AutodiscoverV1") || hostOfURL(doc.URL) == "" {
		return "", errors.New("is not the JSON of Autodiscover")
	}
	return doc.URL, nil
}

// autodiscoverRedirect asks the plain host where to go: anybody on the way can answer, which
// is why what comes of it is marked.
func (h *hunt) autodiscoverRedirect(ctx context.Context) (found, error) {
	at, err := url.Parse("http://autodiscover." + h.who.Domain + "/autodiscover/autodiscover.xml")
	if err != nil {
		return found{}, err
	}
	next, _, err := h.exchange(ctx, at, "")
	if err != nil {
		return found{}, err
	}
	if next == nil || next.Scheme != "https" {
		return found{}, errors.New("does not redirect to https")
	}
	return h.pox(ctx, next.String(), true)
}

// autodiscoverSRV asks the DNS for the host.
func (h *hunt) autodiscoverSRV(ctx context.Context) (found, error) {
	records, info, err := h.dns.LookupSRV(ctx, "_autodiscover._tcp."+h.who.Domain)
	if err != nil {
		return found{}, err
	}
	for _, r := range records {
		if host := properHost(r.Target); host != "" && r.Port == 443 {
			return h.pox(ctx, "https://"+host+"/autodiscover/autodiscover.xml", !info.AD && !h.who.below(host))
		}
	}
	return found{}, errors.New("no host is named")
}

// pox asks version 1. An answer that came by way of another owner is marked.
func (h *hunt) pox(ctx context.Context, at string, marked bool) (found, error) {
	for range 2 {
		d, err := h.fetch(ctx, request{url: at, post: poxRequest(h.mailbox()), within: h.who.Domain})
		if err != nil {
			return found{}, err
		}
		got, next, err := parsePOX(d.body, h.who, h.mailbox())
		if err != nil {
			return found{}, err
		}
		if marked = marked || d.foreign; marked && len(got.services) > 0 {
			got.notes = append(got.notes, "the settings come from "+d.from+", which the domain's Autodiscover points to")
		}
		for i := range got.services {
			got.services[i].Insecure = marked
		}
		if next == "" {
			return got, nil
		}
		at = next
	}
	return found{}, errors.New("redirects again and again")
}

// poxRequest is what is posted. The address is text in it, whatever characters it has.
func poxRequest(address string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?>` + "\n" +
		`<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>`)
	_ = xml.EscapeText(&b, []byte(address)) // a strings.Builder has no errors
	b.WriteString(`</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema></Request></Autodiscover>` + "\n")
	return b.String()
}

// parsePOX reads an answer: servers, or the URL to ask instead.
func parsePOX(body []byte, who subject, asked string) (got found, next string, err error) {
	root, err := parseXML(body)
	if err != nil {
		return got, "", err
	}
	account := root.child("Response").child("Account")
	if !strings.EqualFold(root.name, "Autodiscover") || account == nil {
		return got, "", errors.New("is not an answer of Autodiscover")
	}
	if strings.EqualFold(account.value("Action"), "redirectUrl") {
		if next = account.value("RedirectUrl"); hostOfURL(next) == "" {
			return got, "", errors.New("redirects to what is no https URL")
		}
		return got, next, nil
	}
	for _, p := range account.all("Protocol") {
		if s, ok := poxServer(p, who, asked); ok && len(got.services) < maxServices {
			got.services = append(got.services, s)
		}
	}
	return got, "", nil
}

func poxServer(p *node, who subject, asked string) (s Service, ok bool) {
	s = Service{Protocol: strings.ToLower(p.value("Type")), Host: properHost(p.value("Server")), Confidence: Published, Auth: []string{"password"}}
	if s.Protocol == "" {
		s.Protocol = strings.ToLower(p.attr["Type"])
	}
	port, err := strconv.Atoi(p.value("Port"))
	s.Port = port
	s.Security = poxSecurity(p, port)
	if strings.EqualFold(p.value("SPA"), "on") {
		s.Auth = []string{"ntlm"}
	}
	if s.Username = clip(p.value("LoginName")); s.Username == "" || strings.EqualFold(s.Username, asked) {
		s.Username = who.user("address")
	}
	known := s.Protocol == "imap" || s.Protocol == "pop3" || s.Protocol == "smtp"
	return s, known && s.Host != "" && err == nil && port > 0 && port < 1<<16
}

// poxSecurity reads SSL and Encryption; the latter overrules the former, and calls STARTTLS
// "TLS". The ports that are encrypted from the start are so whatever it says.
func poxSecurity(p *node, port int) string {
	encryption := strings.ToLower(p.value("Encryption"))
	switch {
	case port == 993 || port == 995 || port == 465:
		return TLS
	case encryption == "tls":
		return StartTLS
	case encryption == "ssl":
		return TLS
	case encryption == "none", encryption == "" && strings.EqualFold(p.value("SSL"), "off"):
		return "none"
	case port == 143 || port == 110 || port == 587 || port == 25:
		return StartTLS
	}
	return TLS
}
