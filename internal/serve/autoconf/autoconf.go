// Package autoconf tells mail programs of this server's own settings, over http and https: in
// the ways that Thunderbird, Outlook, Apple's devices and others ask for them, and on a page
// for people.
//
// It answers for hosted domains alone, by the name that is asked (Host), and says the same of
// every address of a domain: nothing tells whether one exists. It asks for no password, sends
// nobody elsewhere but people from http to https at the same name, and reads XML without
// declarations only. The documents themselves are
// made by package format; which settings there are is handed in.
//
// draft-ietf-mailmaint-autoconfig, [MS-OXDISCO] and [MS-OXDSCLI] (Autodiscover),
// draft-ietf-mailmaint-pacc.
package autoconf

import (
	"context"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Options of New. Hostname, IsLocal and Now must be given.
type Options struct {
	Hostname string                                        // in A-labels, has a certificate for sure
	Services []discover.Service                            // best first; their user names are format.WholeAddress
	Provider format.Provider                               // whom they belong to
	Web      string                                        // base of URLs that lead here, such as https://mail.example.org; "": there is no https
	Secure   int                                           // port of https on which strangers reach this server by the names they know, to which people's pages over http lead; 0: none
	IsLocal  func(context.Context, string) (bool, error)   // whether a domain is hosted here
	Any      string                                        // domain that is meant whatever the Host, on a try-out server; "": none
	Sign     func(context.Context, []byte) ([]byte, error) // signs a profile; a fault of kind NotFound, or nil: profiles are not signed
	Allow    func(peer netip.Addr) error                   // whether somebody may ask once more; nil: always
	Near     func(peer netip.Addr) bool                    // whether nobody is on the way to a peer, as to a proxy of ours; nil: this machine
	Now      func() time.Time
	Log      *slog.Logger // nil: discard
}

// Server answers programs.
type Server struct {
	opt Options
	on  map[string]handler // by path, in lower case

	template *template.Template
}

// handler answers a request about a domain that is hosted here.
type handler func(w http.ResponseWriter, r *http.Request, domain string)

// New returns a server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Near == nil {
		o.Near = netip.Addr.IsLoopback
	}
	s := &Server{opt: o, template: newTemplate()}
	s.on = map[string]handler{
		"/mail/config-v1.1.xml":                        s.get(s.autoconfig),
		"/.well-known/autoconfig/mail/config-v1.1.xml": s.get(s.autoconfig),
		"/.well-known/user-agent-configuration.json":   s.get(s.agents),
		"/autodiscover/autodiscover.xml":               s.autodiscover,
		"/autodiscover/autodiscover.json":              s.get(s.autodiscoverJSON),
		"/account":                                     s.get(s.page),
		"/account/":                                    s.get(s.page),
		"/account/style.css":                           s.get(func(w http.ResponseWriter, _ *http.Request, _ string) { give(w, "text/css; charset=utf-8", styleText) }),
		"/account/mail.mobileconfig":                   s.file("application/x-apple-aspen-config", s.profile),
		"/account/qr.svg":                              s.file("image/svg+xml", drawSVG),
		"/account/qr.png":                              s.file("image/png", drawPNG),
	}
	return s
}

// Wrap answers what is asked of this package, and leaves the rest to another handler. It
// redirects no program, and paths may be in any letter case, as some programs have it.
func (s *Server) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := s.handler(r.URL.Path)
		if h == nil {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !s.allowed(r) {
			w.Header().Set("Retry-After", "60")
			say(w, http.StatusTooManyRequests, "too many questions from your network; ask again in a minute")
			return
		}
		domain, err := s.domain(r)
		switch {
		case err != nil:
			s.opt.Log.Warn("settings not told", "err", err)
			say(w, http.StatusServiceUnavailable, "the settings cannot be read now")
		case domain == "":
			say(w, http.StatusNotFound, "this name is of no domain of this server")
		case s.unprotected(r):
			host := hostOf(r.Host)
			if s.opt.Secure != 443 {
				host = net.JoinHostPort(host, strconv.Itoa(s.opt.Secure))
			}
			w.Header().Set("Cache-Control", "no-store")
			http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		default:
			h(w, r, domain)
		}
	})
}

// unprotected tells whether a person asks over http, where others on the way could change the
// page, the profile or the code, and could do so over https. A peer that is near, as a proxy is
// that has taken the TLS off, has nobody on the way.
func (s *Server) unprotected(r *http.Request) bool {
	if s.opt.Secure == 0 || r.TLS != nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	path := strings.ToLower(r.URL.Path)
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return (path == "/account" || strings.HasPrefix(path, "/account/")) && (err != nil || !s.opt.Near(peer.Addr().Unmap()))
}

// handler returns what answers at a path, or nil.
func (s *Server) handler(path string) handler {
	path = strings.ToLower(path)
	// Version 1.0 of the newer Autodiscover has the address in the path.
	if strings.HasPrefix(strings.TrimPrefix(path, "/autodiscover/"), "autodiscover.json/v1.0/") || strings.HasPrefix(path, "/autodiscover.json/v1.0/") {
		path = "/autodiscover/autodiscover.json"
	}
	return s.on[path]
}

// get lets only GET and HEAD through.
func (s *Server) get(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, domain string) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			say(w, http.StatusMethodNotAllowed, "use GET")
			return
		}
		h(w, r, domain)
	}
}

func (s *Server) allowed(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return s.opt.Allow == nil || err != nil || s.opt.Allow(peer.Addr().Unmap()) == nil
}

// labels are what programs put in front of a domain to ask for its settings.
var labels = []string{"autoconfig.", "autodiscover.", "ua-auto-config.", "mail."}

// domain returns the hosted domain that a request is about, in A-labels, or "". The Host says
// which: the domain, one of the names below it, or a name of this server, for which the
// address that is asked for counts.
func (s *Server) domain(r *http.Request) (string, error) {
	host := hostOf(r.Host)
	bare := host
	for _, l := range labels {
		if rest, ok := strings.CutPrefix(host, l); ok {
			bare = rest
			break
		}
	}
	for _, name := range []string{bare, host} {
		if here, err := s.local(r.Context(), name); here || err != nil {
			return name, err
		}
	}
	if s.opt.Any == "" && !s.own(host) && !s.own(bare) {
		return "", nil
	}
	query := r.URL.Query()
	for _, key := range []string{"emailaddress", "address"} {
		_, asked, _ := strings.Cut(query.Get(key), "@")
		if name, err := dnsx.ASCII(asked); err == nil {
			if here, err := s.local(r.Context(), name); here || err != nil {
				return name, err
			}
		}
	}
	if s.opt.Any != "" {
		return s.opt.Any, nil
	}
	return s.opt.Hostname, nil
}

// own tells whether a name is that of this server, or one above it: programs find a provider
// by the names of his mail hosts, too.
func (s *Server) own(name string) bool {
	return name == s.opt.Hostname || strings.Contains(name, ".") && strings.HasSuffix(s.opt.Hostname, "."+name)
}

func (s *Server) local(ctx context.Context, name string) (bool, error) {
	if _, err := mail.ParseDomain(name); err != nil || strings.HasPrefix(name, "[") {
		return false, nil
	}
	here, err := s.opt.IsLocal(ctx, name)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return false, nil
	}
	return here, err
}

// hostOf is the name of a Host header, in lower case.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// answer is what is told of a domain.
func (s *Server) answer(domain string) discover.Answer {
	return discover.Answer{Domain: domain, Services: s.opt.Services}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the client has gone if this fails
}

// give sends a document, which may be kept for an hour.
func give(w http.ResponseWriter, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(body)
}

// autoconfig answers Thunderbird and many others.
func (s *Server) autoconfig(w http.ResponseWriter, r *http.Request, domain string) {
	body, err := format.Autoconfig(s.answer(domain), s.opt.Provider)
	if err != nil {
		say(w, http.StatusNotFound, fault.Say(err))
		return
	}
	give(w, "application/xml; charset=utf-8", body)
}

// agents answers programs that know draft-ietf-mailmaint-pacc.
func (s *Server) agents(w http.ResponseWriter, _ *http.Request, domain string) {
	body, err := s.Agents(domain)
	if err != nil {
		say(w, http.StatusNotFound, fault.Say(err))
		return
	}
	give(w, "application/json", body)
}

// Agents returns the document of draft-ietf-mailmaint-pacc of a domain, whose digest belongs
// into the DNS: the same bytes for as long as the configuration is the same. Faults: NotFound.
func (s *Server) Agents(domain string) ([]byte, error) {
	return format.PACC(s.answer(domain), s.opt.Provider)
}
