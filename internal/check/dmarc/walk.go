package dmarc

import (
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// maxQueries is how many names one walk asks about (RFC 9989, 4.10).
const maxQueries = 8

// tree asks for records, each name once.
type tree struct {
	dns   dnsx.Resolver
	known map[string]found
	walks map[string]walk
	gone  map[string]bool // of domains that were asked for: whether they do not exist
}

// found is the record at a name, if there is exactly one.
type found struct {
	record Record
	ok     bool
}

// walk is what a walk up the tree has found: records from the longest name to the
// shortest, and the Organizational Domain of the name at which it began.
type walk struct {
	steps        []step
	organization string
	doubt        error // the walk did not come to its end
}

type step struct {
	domain string
	record Record
}

// at returns the record of a domain. Several are as good as none (RFC 9989, 4.10).
func (t *tree) at(ctx context.Context, domain string) (found, error) {
	if f, ok := t.known[domain]; ok {
		return f, nil
	}
	texts, _, err := t.dns.LookupTXT(ctx, "_dmarc."+domain)
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Invalid) {
		return found{}, fmt.Errorf("the name service has no answer for _dmarc.%s now", domain)
	}
	var f found
	n := 0
	for _, text := range texts {
		if r, ok := ParseRecord(text); ok {
			f.record = r
			n++
		}
	}
	f.ok = n == 1
	t.known[domain] = f
	return f, nil
}

// climb walks from a domain to the root.
func (t *tree) climb(ctx context.Context, domain string) (walk, error) {
	if w, ok := t.walks[domain]; ok {
		return w, nil
	}
	var w walk
	for i, name := range targets(domain) {
		f, err := t.at(ctx, name)
		if err != nil {
			return w, err
		}
		if !f.ok {
			continue
		}
		w.steps = append(w.steps, step{name, f.record})
		if f.record.PSD == PSDNo || f.record.PSD == PSDYes {
			if f.record.PSD == PSDYes && i > 0 {
				w.organization = below(name, domain)
			} else {
				w.organization = name
			}
			break
		}
	}
	switch {
	case w.organization != "":
	case len(w.steps) > 0:
		w.organization = w.steps[len(w.steps)-1].domain
	default:
		w.organization = domain
	}
	t.walks[domain] = w
	return w, nil
}

// targets are the names that a walk asks about: the domain, then from seven labels or one
// less than it has down to one.
func targets(domain string) []string {
	out := []string{domain}
	labels := strings.Split(domain, ".")
	for n := min(len(labels)-1, maxQueries-1); n > 0; n-- {
		out = append(out, strings.Join(labels[len(labels)-n:], "."))
	}
	return out
}

// below is the name one label below a suffix, on the way to a domain.
func below(suffix, domain string) string {
	rest := strings.TrimSuffix(domain, "."+suffix)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + suffix
}

// within tells whether a name is a domain or stands below it.
func within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// Organization returns the Organizational Domain of a domain (RFC 9989, 4.10.2). Faults:
// Invalid, Unavailable.
func Organization(ctx context.Context, resolver dnsx.Resolver, domain string) (string, error) {
	name, err := dnsx.ASCII(domain)
	if err != nil {
		return "", err
	}
	w, err := newTree(resolver).climb(ctx, name)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, "the organization of "+name+" cannot be found out now", err)
	}
	return w.organization, nil
}

func newTree(resolver dnsx.Resolver) *tree {
	return &tree{resolver, map[string]found{}, map[string]walk{}, map[string]bool{}}
}
