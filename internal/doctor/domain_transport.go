package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/publish"
	"github.com/martlet-mail/martlet/internal/sts"
)

func (d *Doctor) mtaSTS(ctx context.Context, dom publish.Domain) finding {
	want, _ := d.wanted(dom, "_mta-sts."+dom.Name, "TXT")
	texts, _, err := d.Resolver.LookupTXT(ctx, "_mta-sts."+dom.Name)
	if err != nil && !notThere(err) {
		return unanswered(err)
	}
	id, there := sts.ParseTXT(texts)
	switch {
	case !there && dom.Settings.MTASTS == "none":
		return skip("%s has no MTA-STS policy, by its settings", dom.Name)
	case !there:
		return warn(put(want), "%s does not say that it has an MTA-STS policy, so others may be led to send mail in the clear", dom.Name)
	case want.Value != "v=STSv1; id="+id:
		return warn("replace it: "+put(want), "the policy of %s has changed, and the id in the DNS (%s) has not, so others keep the old one", dom.Name, id)
	}
	return ok("%s says that it has an MTA-STS policy", dom.Name)
}

// policyVisit is what came of reading a policy as others do, once for all checks.
type policyVisit struct {
	once   sync.Once
	policy *sts.Policy
	err    error
}

// maxPolicy is what is read of a policy, in bytes (RFC 8461, 3.3).
const maxPolicy = 64 << 10

func (d *Doctor) policy(ctx context.Context, dom publish.Domain) (*sts.Policy, error) {
	v, _ := d.policies.LoadOrStore(dom.Name, new(policyVisit))
	visit := v.(*policyVisit)
	visit.once.Do(func() { visit.policy, visit.err = d.readPolicy(ctx, dom) })
	return visit.policy, visit.err
}

// readPolicy comes to the policy host as others do, by its name in the DNS.
func (d *Doctor) readPolicy(ctx context.Context, dom publish.Domain) (*sts.Policy, error) {
	transport := &http.Transport{
		DialContext:       d.dialName,
		TLSClientConfig:   &tls.Config{RootCAs: d.Roots, Time: d.Now, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, MaxResponseHeaderBytes: maxPolicy,
	}
	web := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("it leads elsewhere, which is not allowed (RFC 8461, 3.3)")
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+dom.Name+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return nil, err
	}
	answer, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxPolicy))
	if err != nil {
		return nil, err
	}
	return sts.ParsePolicy(text)
}

// dialName dials the first address of a name that answers.
func (d *Doctor) dialName(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, _, err := d.Resolver.LookupAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		var conn net.Conn
		if conn, err = d.Dial(ctx, network, net.JoinHostPort(a.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (d *Doctor) mtaSTSPolicy(ctx context.Context, dom publish.Domain) finding {
	if dom.Settings.MTASTS == "none" {
		return skip("%s has no MTA-STS policy, by its settings", dom.Name)
	}
	name := "mta-sts." + dom.Name
	host, _ := d.wanted(dom, name, "CNAME")
	if _, _, err := d.Resolver.LookupAddr(ctx, name); notThere(err) {
		return warn(put(host), "%s, where the MTA-STS policy is read, does not exist", name)
	} else if err != nil {
		return unanswered(err)
	}
	p, err := d.policy(ctx, dom)
	if err != nil {
		fix := "serve https on port 443 of this server with a certificate that is also for " + name + " ([tls.acme], and a [[listen]] block for https)"
		return warn(fix, "the MTA-STS policy of %s cannot be read: %s", dom.Name, oneLine(err))
	}
	if string(p.Mode) != dom.Settings.MTASTS {
		return warn("let "+name+" lead to this server ("+put(host)+"), or: martlet domain set "+dom.Name+" mta-sts="+string(p.Mode), "the MTA-STS policy that others read has the mode %s, and %s is set here", p.Mode, dom.Settings.MTASTS)
	}
	return ok("others read the MTA-STS policy of %s, of the mode %s", dom.Name, p.Mode)
}

// mtaSTSHosts holds the policy against the mail hosts: with enforce, a host that does not
// fit gets no mail.
func (d *Doctor) mtaSTSHosts(ctx context.Context, dom publish.Domain) finding {
	if dom.Settings.MTASTS == "none" {
		return skip("%s has no MTA-STS policy, by its settings", dom.Name)
	}
	p, err := d.policy(ctx, dom)
	if err != nil {
		return skip("there is no policy to look at")
	}
	hosts, _, err := d.Resolver.LookupMX(ctx, dom.Name)
	if err != nil {
		return skip("there is no MX record to look at")
	}
	for _, h := range hosts {
		if !p.Matches(h.Host) {
			return d.graver(p, "take "+h.Host+" out of the MX records of "+dom.Name+", or set mta-sts=none first", "the MTA-STS policy of %s does not name %s, which is one of its mail hosts", dom.Name, h.Host)
		}
	}
	if f := d.certificateName(ctx); f.status == Fail {
		return d.graver(p, f.fix, "the MTA-STS policy of %s asks for a valid certificate: %s", dom.Name, f.why)
	}
	if f := d.certificateChain(ctx); f.status == Fail {
		return d.graver(p, f.fix, "the MTA-STS policy of %s asks for a valid certificate: %s", dom.Name, f.why)
	}
	return ok("the mail hosts of %s fulfil its MTA-STS policy", dom.Name)
}

// graver is a failure if the policy is enforced, since mail does not come then.
func (d *Doctor) graver(p *sts.Policy, fix, format string, args ...any) finding {
	if p.Mode == sts.Enforce {
		return fail(fix, format, args...)
	}
	return warn(fix, format, args...)
}

func (d *Doctor) tlsReports(ctx context.Context, dom publish.Domain) finding {
	want, wanted := d.wanted(dom, "_smtp._tls."+dom.Name, "TXT")
	if !wanted {
		return skip("no reports of TLS are wanted, by the settings of %s", dom.Name)
	}
	f := publish.Compare(ctx, d.Resolver, []publish.Record{want}, nil)[0]
	switch f.Status {
	case publish.Same:
		return ok("who cannot reach %s by TLS tells %s", dom.Name, dom.Settings.TLSReports)
	case publish.Unknown:
		return skip("%s", f.Note)
	case publish.Missing:
		return warn(put(want), "nobody tells when TLS to %s fails (TLSRPT)", dom.Name)
	}
	return warn("replace it: "+put(want), "the TLSRPT record of %s is another than is set here: %s", dom.Name, strings.Join(f.Found, " | "))
}

// leads compares a name that programs try with where it should lead.
func (d *Doctor) leads(ctx context.Context, dom publish.Domain, label, who string) finding {
	want, wanted := d.wanted(dom, label+"."+dom.Name, "CNAME")
	if !wanted {
		return skip("programs are told nothing here: there is no listener for https, or autoconfig.enabled is off")
	}
	f := publish.Compare(ctx, d.Resolver, []publish.Record{want}, nil)[0]
	switch f.Status {
	case publish.Same:
		return ok("%s leads to this server", want.Name)
	case publish.Unknown:
		return skip("%s", f.Note)
	case publish.Missing:
		return warn(put(want), "%s does not exist; people have to type settings into %s", want.Name, who)
	}
	return warn("replace it: "+put(want), "%s leads to %s, not to this server", want.Name, strings.Join(f.Found, ", "))
}

func (d *Doctor) autoconfig(ctx context.Context, dom publish.Domain) finding {
	return d.leads(ctx, dom, "autoconfig", "Thunderbird and others")
}

func (d *Doctor) autodiscover(ctx context.Context, dom publish.Domain) finding {
	return d.leads(ctx, dom, "autodiscover", "Outlook")
}

func (d *Doctor) services(ctx context.Context, dom publish.Domain) finding {
	looked := 0
	for _, service := range []string{"imaps", "submissions", "submission", "imap", "pop3s", "pop3"} {
		name := "_" + service + "._tcp." + dom.Name
		want, _ := d.wanted(dom, name, "SRV")
		list, _, err := d.Resolver.LookupSRV(ctx, name)
		switch {
		case notThere(err) && want.Need == publish.Should:
			return warn(put(want), "mail programs that look for %s by its SRV record do not find it", service)
		case notThere(err):
			continue
		case err != nil:
			return unanswered(err)
		}
		looked++
		if f := d.service(name, list, want); f.status != OK {
			return f
		}
	}
	return ok("%d services are named, and all of them are there", looked)
}

// service holds a record against what is served.
func (d *Doctor) service(name string, list []dnsx.SRV, want publish.Record) finding {
	fields := strings.Fields(want.Value)
	port, host := fields[2], fields[3]
	var told []string
	for _, s := range list {
		target := s.Target
		if target == "" {
			target = "."
		}
		if target == host && fmt.Sprint(s.Port) == port {
			return ok("")
		}
		told = append(told, fmt.Sprintf("port %d of %s", s.Port, target))
	}
	return warn("replace it: "+put(want), "%s leads mail programs to %s, not to port %s of %s", name, strings.Join(told, ", "), port, host)
}

// clientLabels are names below a domain that people's programs try.
var clientLabels = []string{"mail", "imap", "smtp", "pop", "autoconfig", "autodiscover", "ua-auto-config"}

// clientNames sees whether the names that lead here have a certificate: a program that is led
// to one that does not fit warns its user, or gives up.
func (d *Doctor) clientNames(ctx context.Context, dom publish.Domain) finding {
	l, found := d.listener("imaps", "submissions", "https")
	if !found {
		return skip("there is no listener with TLS from the first byte")
	}
	looked := 0
	for _, label := range clientLabels {
		name := label + "." + dom.Name
		addrs, _, err := d.Resolver.LookupAddr(ctx, name)
		if err != nil || !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(d.Site.Addresses, a) }) {
			continue
		}
		looked++
		c, err := d.dial(ctx, l.Address)
		if err != nil {
			return skip("%s does not answer: %v", l.Address, err)
		}
		state, err := d.handshake(ctx, c.conn, name, 0)
		c.close()
		if err != nil {
			return skip("TLS on %s fails: %v", l.Address, err)
		}
		if err := state.PeerCertificates[0].VerifyHostname(name); err != nil {
			return warn("let the authority give certificates for the names of domains, too ([tls.acme] enabled = true, and domains = true), add "+name+" to the certificate, or take the name out of the DNS",
				"%s leads here, and the certificate that is shown there is for %s", name, strings.Join(state.PeerCertificates[0].DNSNames, ", "))
		}
	}
	return ok("each name below %s that leads here has a certificate (%d)", dom.Name, looked)
}
