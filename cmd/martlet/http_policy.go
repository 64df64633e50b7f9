package main

import (
	"net"
	"net/http"
	"strings"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/publish"
)

// ownPolicy answers with the MTA-STS policy of a hosted domain at mta-sts.DOMAIN (RFC 8461,
// 3.2). One that is switched off says so, for those who know an older one (RFC 8461, 8.3).
func (h *house) ownPolicy(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	domain, ok := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(host, ".")), "mta-sts.")
	if !ok || domain == "" {
		plain(w, http.StatusNotFound, "this name has no policy")
		return
	}
	here, err := h.directory.IsLocal(r.Context(), domain)
	var settings directory.Settings
	if err == nil && here {
		settings, err = h.directory.Settings(r.Context(), domain)
	}
	switch {
	case err == nil && !here, fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid):
		plain(w, http.StatusNotFound, "mail for this domain is not taken here")
	case err != nil:
		h.log.Warn("MTA-STS policy not given", "domain", domain, "err", err)
		plain(w, http.StatusServiceUnavailable, "the policy cannot be read now")
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(publish.Policy(publish.Site{Hostname: asciiName(string(h.cfg.Hostname))}, publish.Domain{Name: settings.Domain, Settings: settings})))
	}
}
