package discover

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/dnsx"
)

// mailHosts are the domain's, asked for once.
type mailHosts struct {
	once   sync.Once
	done   chan struct{}
	hosts  []string
	signed bool   // DNSSEC authenticated which they are
	filter string // the one that only filters mail, or passes it on
	err    error
}

var errNoMail = errors.New("the domain takes no mail")

// mailHosts returns those that take mail for the domain: of the best preference only, as others
// may be somebody's who only keeps mail while these are away.
func (h *hunt) mailHosts(ctx context.Context) ([]string, error) {
	m := h.mx
	m.once.Do(func() {
		h.running.Go(func() {
			defer close(m.done)
			ctx, cancel := context.WithTimeout(h.ctx, h.f.opt.Deadline/4)
			defer cancel()
			var all []dnsx.MX
			var info dnsx.Info
			all, info, m.err = h.dns.LookupMX(ctx, h.who.Domain)
			m.hosts, m.signed = bestHosts(all), info.AD
			if len(m.hosts) > 0 && isFilter(m.hosts[0]) {
				m.filter = m.hosts[0]
			}
			if m.err == nil && len(m.hosts) == 0 {
				m.err = errNoMail
			}
		})
	})
	select {
	case <-m.done:
		return m.hosts, m.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bestHosts are those of the lowest number that have a proper name.
func bestHosts(all []dnsx.MX) (hosts []string) {
	var best uint16
	for _, one := range all {
		host := properHost(one.Host)
		if host == "" || len(hosts) > 0 && one.Preference > best {
			continue
		}
		if len(hosts) > 0 && one.Preference < best {
			hosts = nil
		}
		hosts, best = append(hosts, host), one.Preference
	}
	return hosts
}

// forgeable tells whether another owner's word counts only because of a mail host that somebody
// on the way could have named.
func (h *hunt) forgeable(host string) bool { return !h.mx.signed && !h.who.below(host) }

// tableByHost looks the mail hosts up in the table.
func (h *hunt) tableByHost(ctx context.Context, _ *step) (found, error) {
	hosts, err := h.mailHosts(ctx)
	if err != nil {
		return found{}, err
	}
	for _, t := range []*table{h.f.overrides, h.f.table} {
		for _, host := range hosts {
			if p := t.byHost(host); p != nil {
				return h.entry(p, "table-mx"), nil
			}
		}
	}
	return found{result: "none of " + strings.Join(hosts[:min(len(hosts), 4)], ", ") + " is known"}, nil
}

// tableByHostsDomain looks for a provider whose own mail is taken by the same host. That is less
// certain than a name that the table has for mail hosts, so the domain's own records go before it.
func (h *hunt) tableByHostsDomain(ctx context.Context, _ *step) (found, error) {
	hosts, err := h.mailHosts(ctx)
	if err != nil {
		return found{}, err
	}
	for _, t := range []*table{h.f.overrides, h.f.table} {
		for _, host := range hosts {
			if p := t.byHostsDomain(host); p != nil && !slices.Contains(p.Domains, h.who.Domain) {
				return h.entry(p, "mx-table"), nil
			}
		}
	}
	return found{result: strings.Join(hosts[:min(len(hosts), 4)], ", ") + " is of no provider that is known"}, nil
}

// tableByAlias looks for a provider that the domain's Autodiscover is an alias of: a filter in front
// hides the mail host, and not that.
func (h *hunt) tableByAlias(ctx context.Context, _ *step) (found, error) {
	target, _, err := h.dns.LookupCNAME(ctx, "autodiscover."+h.who.Domain)
	if err != nil {
		return found{}, err
	}
	for _, t := range []*table{h.f.overrides, h.f.table} {
		if p := t.aliases[target]; p != nil {
			return h.entry(p, "alias"), nil
		}
	}
	return found{result: "it is of no provider that is known"}, nil
}

// hostDomains are the domains that may know about the first mail host: its name without the
// first label, and what is registrable of it (draft-ietf-mailmaint-autoconfig, 4.3). There are none
// of a filter, and of a machine that a customer has rented.
func hostDomains(host, asked string) (all []string) {
	if !ownersMail(host) {
		return nil
	}
	_, full, _ := strings.Cut(host, ".")
	base := registrable(host)
	if strings.HasSuffix(full, "."+base) && full != asked {
		all = append(all, full)
	}
	if base != asked && base != host {
		all = append(all, base)
	}
	return all
}

// noOwner says why nobody is asked about a mail host.
func noOwner(host string) string {
	switch {
	case isFilter(host):
		return host + " only filters mail, or passes it on"
	case !ownersMail(host):
		return host + " is a machine or a line that somebody has rented"
	}
	return "the mail host is of the domain itself"
}

// byMailHost asks the provider of the mail host.
func (h *hunt) byMailHost(ctx context.Context, s *step) (found, error) {
	hosts, err := h.mailHosts(ctx)
	if err != nil {
		return found{}, err
	}
	query := ""
	if h.who.Address != "" {
		query = "?emailaddress=" + url.QueryEscape(h.who.Address)
	}
	var urls []string
	domains := hostDomains(hosts[0], h.who.Domain)
	for _, d := range domains {
		urls = append(urls, "https://autoconfig."+d+"/mail/config-v1.1.xml"+query)
		urls = append(urls, "https://"+d+"/.well-known/autoconfig/mail/config-v1.1.xml")
	}
	if len(urls) == 0 {
		return found{result: noOwner(hosts[0])}, nil
	}
	h.asked(s, "https autoconfig of "+strings.Join(domains, ", "))
	requests := gets(false, urls...)
	for i := range requests {
		requests[i].marked = h.forgeable(hosts[0])
	}
	return h.autoconfig(ctx, s, requests, Published)
}

// databaseByHost asks the database about the provider of the mail host.
func (h *hunt) databaseByHost(ctx context.Context, s *step) (found, error) {
	hosts, err := h.mailHosts(ctx)
	if err != nil {
		return found{}, err
	}
	var urls []string
	for _, d := range hostDomains(hosts[0], h.who.Domain) {
		urls = append(urls, h.f.opt.Database+d)
	}
	if len(urls) == 0 {
		return found{result: noOwner(hosts[0])}, nil
	}
	h.asked(s, strings.Join(urls, ", "))
	return h.autoconfig(ctx, s, gets(true, urls...), Database)
}

// asked says what a step asks, if that is known only now.
func (h *hunt) asked(s *step, what string) {
	h.mu.Lock()
	s.asked = what
	h.mu.Unlock()
}

func hostPort(host string, port int) string {
	if port == 443 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
