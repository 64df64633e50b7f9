package tlsrpt

import (
	"net/url"
	"strings"
)

// maxURIs bounds the places that a domain can have reports sent to.
const maxURIs = 5

// Wanted reads the TXT records at _smtp._tls of a domain and returns where it wants reports,
// in the order given; nothing unless exactly one record is of TLSRPT (RFC 8460, 3).
func Wanted(texts []string) (uris []string) {
	record := ""
	for _, t := range texts {
		rest, ok := strings.CutPrefix(t, "v=TLSRPTv1")
		if !ok || rest != "" && !strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";") {
			continue
		}
		if record != "" {
			return nil
		}
		record = t
	}
	for i, field := range strings.Split(record, ";") {
		name, value, ok := strings.Cut(field, "=")
		if i == 0 || !ok || strings.Trim(name, " \t") != "rua" {
			continue
		}
		for one := range strings.SplitSeq(value, ",") {
			one = strings.Trim(one, " \t")
			u, err := url.Parse(one)
			if err != nil || len(uris) == maxURIs {
				continue
			}
			if s := strings.ToLower(u.Scheme); s == "mailto" && u.Opaque != "" || s == "https" && u.Host != "" {
				uris = append(uris, one)
			}
		}
		return uris
	}
	return nil
}
