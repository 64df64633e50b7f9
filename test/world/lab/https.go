package lab

import (
	"crypto/tls"
	"net/http"
	"time"
)

// Policy serves a text as the MTA-STS policy of a domain from a host, with a good
// certificate, until stop is called (RFC 8461, 3.3).
func (h *Host) Policy(domain, text string) (stop func(), err error) {
	name := "mta-sts." + domain
	cert, err := h.world.CA.Issue(24*time.Hour, name)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(cert.File, cert.Key)
	if err != nil {
		return nil, err
	}
	in, err := h.Listen("tcp", ":443")
	if err != nil {
		return nil, err
	}
	s := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/mta-sts.txt" || r.Host != name {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte(text))
	})}
	go s.Serve(tls.NewListener(in, &tls.Config{Certificates: []tls.Certificate{pair}}))
	return func() { s.Close() }, nil
}
