package dmarc

import (
	"net/url"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Bounds of what a record can make us keep.
const (
	maxRecord = 16 << 10 // bytes that are read
	maxURIs   = 10       // of each kind
)

// ParseRecord reads a TXT record. It is none of DMARC, and ok is false, unless it begins
// with v=DMARC1. Tags that nobody knows are left out, and so are malformed ones: then the
// default holds (RFC 9989, 4.8). Of two tags of one name the first counts.
func ParseRecord(text string) (r Record, ok bool) {
	if len(text) > maxRecord {
		text = text[:maxRecord]
	}
	r = Record{Text: text, Failure: []string{"0"}}
	seen := map[string]bool{}
	for i, tag := range strings.Split(text, ";") {
		name, value, cut := strings.Cut(tag, "=")
		name, value = strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
		if i == 0 {
			if !cut || name != "v" || value != "DMARC1" {
				return Record{}, false
			}
			continue
		}
		if cut && !seen[name] {
			seen[name] = true
			r.set(name, value)
		}
	}
	r.Malformed = r.Malformed || r.Policy == ""
	return r, true
}

// set takes a tag (RFC 9989, 4.7). Words are compared without case.
func (r *Record) set(name, value string) {
	word := strings.ToLower(value)
	switch name {
	case "p":
		r.Policy, _ = policy(word)
	case "sp":
		var ok bool
		r.Subdomains, ok = policy(word)
		r.Malformed = r.Malformed || !ok
	case "np":
		var ok bool
		r.NonExistent, ok = policy(word)
		r.Malformed = r.Malformed || !ok
	case "adkim":
		r.StrictDKIM = word == "s"
	case "aspf":
		r.StrictSPF = word == "s"
	case "psd":
		r.PSD = map[string]PSD{"y": PSDYes, "n": PSDNo}[word]
	case "t":
		r.Testing = word == "y"
	case "fo":
		if f := failures(word); f != nil {
			r.Failure = f
		}
	case "rua":
		r.RUA = uris(value)
	case "ruf":
		r.RUF = uris(value)
	}
}

func policy(word string) (Policy, bool) {
	switch p := Policy(word); p {
	case PolicyNone, PolicyQuarantine, PolicyReject:
		return p, true
	}
	return "", false
}

// failures reads fo; nil if it is malformed.
func failures(list string) (out []string) {
	for word := range strings.SplitSeq(list, ":") {
		word = strings.Trim(word, " \t")
		if len(word) != 1 || !strings.Contains("01ds", word) || slices.Contains(out, word) {
			return nil
		}
		out = append(out, word)
	}
	if slices.Contains(out, "0") && slices.Contains(out, "1") {
		return nil
	}
	return out
}

// uris reads a list of URIs, without their obsolete sizes and without what is none.
func uris(list string) (out []string) {
	for s := range strings.SplitSeq(list, ",") {
		s, _, _ = strings.Cut(strings.Trim(s, " \t"), "!")
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" || u.Opaque == "" && u.Host == "" || len(out) == maxURIs {
			continue
		}
		if strings.EqualFold(u.Scheme, "mailto") {
			if _, ok := MailTo(s); !ok {
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// MailTo returns the address of a mailto: URI that names one (RFC 6068, 2).
func MailTo(uri string) (mail.Address, bool) {
	u, err := url.Parse(uri)
	if err != nil || !strings.EqualFold(u.Scheme, "mailto") {
		return mail.Address{}, false
	}
	text, err := url.PathUnescape(u.Opaque)
	if err != nil {
		return mail.Address{}, false
	}
	a, err := mail.ParseAddress(text)
	return a, err == nil
}
