package lab

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

const pebbleConf = `{"pebble": {
  "listenAddress": "0.0.0.0:14000", "managementListenAddress": "127.0.0.1:15000",
  "certificate": "%s", "privateKey": "%s", "httpPort": 80, "tlsPort": 443,
  "ocspResponderURL": "", "externalAccountBindingRequired": false
}}`

// ACME brings an authority into the world that gives certificates to whoever holds the
// names, by Pebble: at https://NAME:14000/dir, with a certificate of the world's own
// authority. The hosts that come after it trust what it signs.
func (w *World) ACME(name string, at Place) (*Host, error) {
	h, err := w.Host(name, at)
	if err != nil {
		return nil, err
	}
	cert, err := w.CA.Issue(24*time.Hour, name)
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(h.Dir, "pebble.json")
	if err := writeFile(conf, fmt.Sprintf(pebbleConf, cert.File, cert.Key)); err != nil {
		return nil, err
	}
	_, err = h.Serve(h.Answers("127.0.0.1:14000"), "sh", "-c", `exec "$@" >"$0" 2>&1`, filepath.Join(h.Dir, "pebble.log"), "env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "pebble", "-config", conf, "-dnsserver", net.JoinHostPort(Resolver4, "53"))
	if err != nil {
		return nil, err
	}
	root, err := h.pebbleRoot()
	w.CA.text += root
	return h, err
}

// pebbleRoot asks for the certificate of the authority, which is another one each time.
func (h *Host) pebbleRoot() (string, error) {
	c := &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: h.DialContext, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: h.world.CA.Pool(), ServerName: h.Name},
	}}
	r, err := c.Get("https://127.0.0.1:15000/roots/0")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && !strings.Contains(string(text), "BEGIN CERTIFICATE") {
		err = fmt.Errorf("no certificate: %s", text)
	}
	return string(text), err
}
