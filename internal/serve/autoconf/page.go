package autoconf

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/fault"
)

//go:embed page.html
var pageText string

//go:embed style.css
var styleText []byte

// policy lets the page load its own style and pictures, and nothing run.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// view is what the page shows.
type view struct {
	Domain  string // "" where none is known yet
	Title   string
	Asked   string // what was typed in
	Address string // the address, if it is one of the domain
	Wrong   string // what is wrong with it
	User    string // the user name
	Reading []row
	Sending []row
	Profile string // URLs; "": there is none
	POP     string
	SVG     string
	PNG     string
	Help    string
}

type row struct {
	What, Host, Security string
	Port                 int
}

// page shows people the settings of an address: a card to copy from, a profile for Apple's
// devices, and a QR code. Every address of a domain gets the same, whether it exists or not.
func (s *Server) page(w http.ResponseWriter, r *http.Request, domain string) {
	v := view{Domain: domain, Title: or(s.opt.Provider.Name, domain), Asked: r.URL.Query().Get("address"), Help: s.opt.Provider.Help, User: "your whole e-mail address"}
	status, cache := http.StatusOK, "private, max-age=3600"
	if v.Asked != "" {
		address, say := s.addressOf(v.Asked, domain)
		if v.Address, v.Wrong = address, say; say != "" {
			status, cache = http.StatusBadRequest, "no-store"
		}
	}
	a := s.answer(domain)
	a.Address = v.Address
	if v.Address != "" {
		v.User = v.Address
		v.addFiles(a, s.opt.Provider)
	}
	seen := map[string]bool{}
	for _, svc := range a.Services {
		what := words[svc.Protocol]
		if seen[svc.Protocol] {
			what += ", second choice"
		}
		seen[svc.Protocol] = true
		line := row{What: what, Host: svc.Host, Port: svc.Port, Security: words[svc.Security]}
		if svc.Protocol == "smtp" {
			v.Sending = append(v.Sending, line)
		} else {
			v.Reading = append(v.Reading, line)
		}
	}
	var b bytes.Buffer
	if err := s.template.Execute(&b, v); err != nil {
		s.opt.Log.Error("the page of settings cannot be written", "err", err)
		say(w, http.StatusInternalServerError, "internal error, it has been logged")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", cache)
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

var words = map[string]string{
	"imap": "IMAP", "pop3": "POP3", "smtp": "SMTP",
	discover.TLS: "SSL/TLS", discover.StartTLS: "STARTTLS", "none": "none",
}

// addFiles adds what can be had for an address.
func (v *view) addFiles(a discover.Answer, p format.Provider) {
	query := "?" + url.Values{"address": {a.Address}}.Encode()
	if _, err := format.Mobileconfig(a, p, "", false); err == nil {
		v.Profile = "/account/mail.mobileconfig" + query
		if both(a) {
			v.POP = v.Profile + "&read=pop3"
		}
	}
	if _, err := format.QR(a, ""); err == nil {
		v.SVG, v.PNG = "/account/qr.svg"+query, "/account/qr.png"+query
	}
}

// both tells whether mail can be read in two ways.
func both(a discover.Answer) bool {
	has := map[string]bool{}
	for _, s := range a.Services {
		has[s.Protocol] = true
	}
	return has["imap"] && has["pop3"]
}

// addressOf returns the address that was asked for, or what is wrong with it.
func (s *Server) addressOf(asked, domain string) (address, wrong string) {
	if !strings.Contains(asked, "@") && asked != "" {
		asked += "@" + domain
	}
	address, of := canonical(strings.TrimSpace(asked))
	switch {
	case address == "":
		return "", "That is not an e-mail address."
	case of != domain:
		return "", "Here are the settings of addresses at " + domain + " only."
	}
	return address, ""
}

// file answers with something made of an address.
func (s *Server) file(kind string, write func(r *http.Request, a discover.Answer) ([]byte, error)) handler {
	return s.get(func(w http.ResponseWriter, r *http.Request, domain string) {
		address, wrong := s.addressOf(r.URL.Query().Get("address"), domain)
		if wrong != "" {
			say(w, http.StatusBadRequest, wrong)
			return
		}
		a := s.answer(domain)
		a.Address = address
		body, err := write(r, a)
		if err != nil {
			say(w, http.StatusNotFound, fault.Say(err))
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "private, max-age=3600")
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = w.Write(body)
	})
}

func (s *Server) profile(r *http.Request, a discover.Answer) ([]byte, error) {
	body, err := format.Mobileconfig(a, s.opt.Provider, "", r.URL.Query().Get("read") == "pop3")
	if err != nil || s.opt.Sign == nil {
		return body, err
	}
	signed, err := s.opt.Sign(r.Context(), body)
	switch {
	case err == nil:
		return signed, nil
	case !fault.Is(err, fault.NotFound):
		s.opt.Log.Warn("a profile was given unsigned", "err", err)
	}
	return body, nil
}

func picture(_ *http.Request, a discover.Answer) (format.Picture, error) {
	text, err := format.QR(a, "")
	if err != nil {
		return format.Picture{}, err
	}
	return format.Draw(text)
}

func drawSVG(r *http.Request, a discover.Answer) ([]byte, error) {
	p, err := picture(r, a)
	if err != nil {
		return nil, err
	}
	return p.SVG(), nil
}

func drawPNG(r *http.Request, a discover.Answer) ([]byte, error) {
	p, err := picture(r, a)
	if err != nil {
		return nil, err
	}
	return p.PNG(), nil
}

func newTemplate() *template.Template { return template.Must(template.New("page").Parse(pageText)) }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
