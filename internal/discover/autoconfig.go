package discover

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxServices is how many a document may name.
const maxServices = 32

// autoconfigURLs are where a domain publishes its settings (draft-ietf-mailmaint-autoconfig,
// 4.1). The address goes over HTTPS only.
func (h *hunt) autoconfigURLs(scheme, domain string) []string {
	query := ""
	if h.who.Address != "" && scheme == "https" {
		query = "?emailaddress=" + url.QueryEscape(h.who.Address)
	}
	return []string{
		scheme + "://autoconfig." + domain + "/mail/config-v1.1.xml" + query,
		scheme + "://" + domain + "/.well-known/autoconfig/mail/config-v1.1.xml",
	}
}

// autoconfig asks several places at once, and takes the first in their order.
func (h *hunt) autoconfig(ctx context.Context, s *step, requests []request, confidence string) (found, error) {
	ways := make([]func(context.Context) (found, error), len(requests))
	for i, r := range requests {
		ways[i] = func(ctx context.Context) (found, error) { return h.autoconfigAt(ctx, r, confidence) }
	}
	return h.firstOf(ctx, s, ways)
}

// plainAutoconfig asks several places over plain HTTP. Each answer is doubted before it counts.
func (h *hunt) plainAutoconfig(ctx context.Context, s *step, requests []request) (found, error) {
	ways := make([]func(context.Context) (found, error), len(requests))
	for i, r := range requests {
		ways[i] = func(ctx context.Context) (found, error) {
			got, err := h.autoconfigAt(ctx, r, Published)
			h.doubt(s, got)
			return got, err
		}
	}
	return h.firstOf(ctx, s, ways)
}

// doubt takes what came over plain HTTP for no more than a guess, and for less than one that a
// certificate confirms, if it names another owner's host or one without encryption: that is what
// somebody on the way would say.
func (h *hunt) doubt(s *step, got found) {
	if !slices.ContainsFunc(got.services, func(v Service) bool { return v.Security == "none" || !h.who.below(v.Host) }) {
		return
	}
	for i := range got.services {
		got.services[i].Confidence = Guessed
	}
	h.mu.Lock()
	s.rank = rankDoubted
	h.mu.Unlock()
}

// firstOf goes several ways at once, and takes the first in their order that finds something;
// until that is certain, the best so far is what the step has found.
func (h *hunt) firstOf(ctx context.Context, s *step, ways []func(context.Context) (found, error)) (found, error) {
	type result struct {
		n   int
		got found
		err error
	}
	results := make(chan result, len(ways))
	for n, way := range ways {
		h.running.Go(func() {
			got, err := way(ctx)
			if err == nil && len(got.services) == 0 {
				err = errNothing
			}
			results <- result{n, got, err}
		})
	}
	ended := make([]*result, len(ways))
	for range ways {
		r := <-results
		ended[r.n] = &r
		for n, e := range ended {
			if e != nil && e.err == nil {
				if !slices.Contains(ended[:n], nil) {
					return e.got, nil
				}
				h.post(s, e.got)
				break
			}
		}
	}
	return found{}, ended[0].err
}

// gets are requests for documents.
func gets(sameWay bool, urls ...string) (all []request) {
	for _, at := range urls {
		all = append(all, request{url: at, sameWay: sameWay})
	}
	return all
}

func (h *hunt) autoconfigAt(ctx context.Context, r request, confidence string) (found, error) {
	d, err := h.fetch(ctx, r)
	if err != nil {
		return found{}, err
	}
	got, err := parseAutoconfig(d.body, h.who)
	for i := range got.services {
		got.services[i].Confidence = confidence
		got.services[i].Insecure = r.marked || strings.HasPrefix(r.url, "http:")
	}
	if d.foreign {
		got.notes = append(got.notes, "the settings come from "+d.from+", to which the domain redirects")
	}
	return got, err
}

// parseAutoconfig reads a client configuration, versions 1.1 and 1.2
// (draft-ietf-mailmaint-autoconfig, 3).
func parseAutoconfig(body []byte, who subject) (found, error) {
	root, err := parseXML(body)
	if err != nil {
		return found{}, err
	}
	provider := root.child("emailProvider")
	if root.name != "clientConfig" || provider == nil {
		return found{}, errors.New("is no client configuration")
	}
	got := found{provider: clip(who.fill(provider.value("displayName")))}
	for _, n := range slices.Concat(provider.kids, root.kids) {
		var s Service
		var ok bool
		switch strings.ToLower(n.name) {
		case "incomingserver", "outgoingserver":
			s, ok = server(n, who)
		case "calendar", "addressbook":
			s, ok = webServer(n, who, strings.ToLower(n.attr["type"]))
		case "enable":
			if at := n.attr["visiturl"]; hostOfURL(at) != "" {
				got.notes = append(got.notes, "the provider wants something to be switched on first: "+clip(at))
			}
		}
		if ok && len(got.services) < maxServices {
			got.services = append(got.services, s)
		}
	}
	return got, nil
}

// server reads an incomingServer or outgoingServer; ok is false for one that cannot be used.
func server(n *node, who subject) (s Service, ok bool) {
	kind := strings.ToLower(n.attr["type"])
	if kind == "managesieve" {
		kind = "sieve"
	}
	s = Service{Protocol: kind, Host: properHost(who.fill(n.value("hostname"))), Username: clip(who.fill(n.value("username"))), Auth: signIns(n)}
	switch kind {
	case "jmap":
		return webServer(n, who, kind)
	case "imap", "pop3", "sieve":
		ok = strings.EqualFold(n.name, "incomingServer")
	case "smtp":
		ok = strings.EqualFold(n.name, "outgoingServer")
	}
	port, err := strconv.Atoi(n.value("port"))
	s.Port = port
	switch strings.ToUpper(n.value("socketType")) {
	case "SSL", "TLS":
		s.Security = TLS
	case "STARTTLS":
		s.Security = StartTLS
	case "PLAIN":
		s.Security = "none"
	default:
		ok = false
	}
	if s.Username == "" {
		s.Username = who.user("address")
	}
	return s, ok && s.Host != "" && err == nil && port > 0 && port < 1<<16
}

// webServer reads one of those spoken over HTTP.
func webServer(n *node, who subject, kind string) (Service, bool) {
	at := n.value("url")
	if at == "" {
		at = n.value("serverURL")
	}
	at = who.fill(at)
	s := Service{Protocol: kind, Host: hostOfURL(at), Port: 443, Security: TLS, URL: at, Username: clip(who.fill(n.value("username"))), Auth: signIns(n)}
	if s.Username == "" {
		s.Username = who.user("address")
	}
	return s, overHTTP(kind) && s.Host != "" && at == clip(at)
}

// signIns translates ways to sign in.
func signIns(n *node) []string {
	names := map[string]string{
		"password-cleartext": "password", "plain": "password", "http-basic": "password", "basic": "password", "digest": "digest-md5", "password-encrypted": "cram-md5", "secure": "cram-md5",
		"oauth2": "oauth2", "ntlm": "ntlm", "gssapi": "gssapi", "tls-client-cert": "client-certificate", "client-ip-address": "client-address", "none": "none",
	}
	var all []string
	for _, a := range n.all("authentication") {
		if name := names[strings.ToLower(a.text)]; name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		all = []string{"password"}
	}
	return all
}
