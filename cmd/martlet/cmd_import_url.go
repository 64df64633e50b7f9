package main

import (
	"net/url"
	"strconv"
	"strings"
)

// serverURL reads SCHEMEs://HOST[:PORT], which is TLS from the first byte, or SCHEME://HOST[:PORT],
// which begins in plain text. The port is 0 if it is not said.
func serverURL(text, scheme string) (host string, port uint16, plain bool, err error) {
	wrong := misused("--from %q is not of the form %ss://HOST or %s://HOST:PORT", text, scheme, scheme)
	u, bad := url.Parse(text)
	if bad != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", 0, false, wrong
	}
	if plain = u.Scheme == scheme; !plain && u.Scheme != scheme+"s" {
		return "", 0, false, wrong
	}
	if p := u.Port(); p != "" {
		n, bad := strconv.ParseUint(p, 10, 16)
		if bad != nil || n == 0 {
			return "", 0, false, wrong
		}
		port = uint16(n)
	}
	return u.Hostname(), port, plain, nil
}
