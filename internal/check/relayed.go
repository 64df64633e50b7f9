package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/check/arc"
	"github.com/martlet-mail/martlet/internal/check/authres"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// marks of a list or a forwarder (RFC 2919, RFC 2369, RFC 5322, 3.6.6, RFC 8617).
var marks = map[string]string{
	"list-id": "a list", "list-post": "a list", "mailing-list": "a list", "x-mailman-version": "a list",
	"resent-from": "somebody who sent it again", "arc-seal": "a host that sealed it",
}

// relayed looks for signs that a message came by a list or a forwarder, who may have changed
// it (RFC 7960). Whoever forges a message can make them, too: they only make the difference
// between refusing it and Junk (RFC 9989, 7.4).
func (v *Verdict) relayed(header []byte) string {
	for name := range mime.Fields(header) {
		if len(name) <= 20 {
			if by := marks[strings.ToLower(string(name))]; by != "" {
				return "by " + by + " (" + string(name) + ")"
			}
		}
	}
	if local := v.Envelope.From.Local; strings.HasPrefix(local, "SRS0") || strings.HasPrefix(local, "SRS1") {
		return "by a forwarder (SRS)"
	}
	for _, s := range v.DKIM {
		if s.Status == dkim.PermError && s.Domain == "" { // a header that is odd as a whole, most often
			return "by somebody who damaged its header (a signature cannot be read)"
		}
		if s.Status == dkim.Fail && v.DMARC.Organization != "" && below(s.Domain, v.DMARC.Organization) {
			return "by somebody who changed it (the author's signature is broken)"
		}
	}
	return ""
}

// trusted looks for a forwarder of Options.Trusted that stands behind the message, or, if
// there is none, for one of whom that cannot be found out now.
func (c *Checker) trusted(v *Verdict) (open Forwarder) {
	if f, ok := c.sealed(v); ok && !f.Open {
		return f
	} else if ok {
		open = f
	}
	note := func(domain, detail string) {
		if open.Domain == "" {
			open = Forwarder{Domain: domain, Open: true, Detail: detail}
		}
	}
	for _, domain := range c.opt.Trusted {
		for _, s := range v.DKIM {
			switch {
			case !below(s.Domain, domain):
			case s.Status == dkim.Pass:
				return Forwarder{Domain: domain, Detail: "dkim=pass header.d=" + s.Domain}
			case s.Status == dkim.TempError:
				note(domain, "dkim=temperror header.d="+s.Domain)
			}
		}
		switch {
		case !below(v.SPF.Domain, domain):
		case v.SPF.Status == spf.Pass:
			return Forwarder{Domain: domain, Detail: "spf=pass smtp.mailfrom=" + v.SPF.Domain}
		case v.SPF.Status == spf.TempError:
			note(domain, "spf=temperror smtp.mailfrom="+v.SPF.Domain)
		}
	}
	return open
}

// sealed looks for a set of a valid chain that says that DMARC passed for the author, with
// nobody but trusted sealers from there on (RFC 8617, 7.2.1). A chain of which a key cannot
// be had now leaves it open.
func (c *Checker) sealed(v *Verdict) (Forwarder, bool) {
	if v.ARC.Status != arc.Pass && !v.ARC.Temporary || v.ARC.Weak || v.DMARC.Author == "" {
		return Forwarder{}, false
	}
	for i := len(v.ARC.Sets) - 1; i >= 0; i-- {
		set := v.ARC.Sets[i]
		if !slices.ContainsFunc(c.opt.Trusted, func(d string) bool { return below(set.Domain, d) }) {
			break
		}
		if saysPass(set.Results, v.DMARC.Author) {
			return Forwarder{Domain: set.Domain, ARC: true, Open: v.ARC.Temporary, Detail: fmt.Sprintf("as[%d].d=%s as[%d].s=%s", set.Instance, set.Domain, set.Instance, set.Selector)}, true
		}
	}
	return Forwarder{}, false
}

// saysPass tells whether a sealer's results say that DMARC passed for an author.
func saysPass(results, author string) bool {
	f, err := authres.Parse(results)
	if err != nil {
		return false
	}
	for _, r := range f.Results {
		if r.Method != "dmarc" || r.Value != pass || r.Version != "" && r.Version != "1" {
			continue
		}
		for _, p := range r.Props {
			if p.Type == "header" && p.Name == "from" && below(p.Value, author) && below(author, p.Value) {
				return true
			}
		}
	}
	return false
}

// below tells whether a name is a domain or stands below it.
func below(name, domain string) bool {
	if n, err := dnsx.ASCII(name); err == nil {
		name = n
	}
	return domain != "" && (name == domain || strings.HasSuffix(name, "."+domain))
}
