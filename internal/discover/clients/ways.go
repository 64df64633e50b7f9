package clients

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// config reads an autoconfig document.
func (p *player) config(ctx context.Context, at string, strict bool) result {
	r := result{asked: at}
	body, err := p.document(ctx, at)
	if err != nil {
		r.err = err
		return r
	}
	r.services, r.err = readConfig(body, p.address, strict)
	return r
}

// document gets a document once, whoever reads it.
func (p *player) document(ctx context.Context, at string) ([]byte, error) {
	r := p.ask("document "+at, func() result {
		body, err := p.get(ctx, "GET", at, "")
		return result{asked: string(body), err: err}
	})
	return []byte(r.asked), r.err
}

func (p *player) withAddress(at string) string {
	return at + "?" + url.Values{"emailaddress": {p.address}}.Encode()
}

const configPath = "/mail/config-v1.1.xml"

func (p *player) autoconfig(ctx context.Context) result {
	return p.config(ctx, p.withAddress("https://autoconfig."+p.domain+configPath), false)
}

// Thunderbird for Android does not send the address, and refuses a document as a whole for
// what others pass over.
func (p *player) autoconfigStrict(ctx context.Context) result {
	return p.config(ctx, "https://autoconfig."+p.domain+configPath, true)
}

func (p *player) wellKnown(ctx context.Context) result {
	return p.config(ctx, p.withAddress("https://"+p.domain+"/.well-known/autoconfig"+configPath), false)
}

func (p *player) wellKnownStrict(ctx context.Context) result {
	return p.config(ctx, "https://"+p.domain+"/.well-known/autoconfig"+configPath, true)
}

func (p *player) autoconfigHTTP(ctx context.Context) result {
	return p.config(ctx, p.withAddress("http://autoconfig."+p.domain+configPath), false)
}

func (p *player) byMX(ctx context.Context) result       { return p.ofMailHost(ctx, false) }
func (p *player) byMXStrict(ctx context.Context) result { return p.ofMailHost(ctx, true) }

// ofMailHost asks the provider of the mail host: its name without the first label, then its
// registrable domain (draft-ietf-mailmaint-autoconfig, MX).
func (p *player) ofMailHost(ctx context.Context, strict bool) result {
	all, _, err := p.Resolver.LookupMX(ctx, p.domain)
	if err != nil || len(all) == 0 || all[0].Host == "" {
		if err != nil {
			err = unnamed("the mail host of "+p.domain, err)
		} else {
			err = fault.New(fault.NotFound, "the domain takes no mail")
		}
		return result{asked: "MX " + p.domain, err: err}
	}
	_, full, _ := strings.Cut(all[0].Host, ".")
	base, _ := publicsuffix.EffectiveTLDPlusOne(all[0].Host)
	r := result{asked: "MX " + all[0].Host, err: fault.New(fault.NotFound, "the mail host has no domain")}
	for _, domain := range slices.Compact([]string{full, base}) {
		if !strings.Contains(domain, ".") {
			continue
		}
		if r = p.config(ctx, p.withAddress("https://autoconfig."+domain+configPath), strict); r.err == nil {
			break
		}
	}
	return r
}

// srv asks the DNS for services (RFC 6186, RFC 8314, 5.1).
func (p *player) srv(ctx context.Context) result {
	r := result{asked: "SRV _imaps._tcp." + p.domain + " and others"}
	var failed error
	for _, row := range []struct{ label, protocol, security string }{
		{"_imaps", "imap", discover.TLS}, {"_imap", "imap", discover.StartTLS}, {"_pop3s", "pop3", discover.TLS}, {"_pop3", "pop3", discover.StartTLS},
		{"_submissions", "smtp", discover.TLS}, {"_submission", "smtp", discover.StartTLS},
	} {
		all, _, err := p.Resolver.LookupSRV(ctx, row.label+"._tcp."+p.domain)
		if err != nil && !fault.Is(err, fault.NotFound) {
			failed = unnamed(row.label+"._tcp."+p.domain, err)
		}
		if len(all) == 0 {
			continue
		}
		best := slices.MinFunc(all, func(a, b dnsxSRV) int { return int(a.Priority) - int(b.Priority) })
		if best.Target != "" {
			r.services = append(r.services, discover.Service{Protocol: row.protocol, Host: best.Target, Port: int(best.Port), Security: row.security, Username: p.address, Source: "srv"})
		}
	}
	if len(r.services) == 0 {
		if r.err = failed; failed == nil {
			r.err = fault.New(fault.NotFound, "there are no records of services")
		}
	}
	return r
}

// names tries what programs and people guess: TLS from the first byte, with a certificate of
// the name that was guessed.
func (p *player) names(ctx context.Context) result {
	r := result{asked: fmt.Sprintf("imap.%[1]s, smtp.%[1]s, mail.%[1]s", p.domain)}
	for _, g := range []struct {
		protocol string
		port     int
		labels   []string
	}{{"imap", 993, []string{"imap.", "mail.", ""}}, {"smtp", 465, []string{"smtp.", "mail.", ""}}} {
		for _, l := range g.labels {
			s := discover.Service{Protocol: g.protocol, Host: l + p.domain, Port: g.port, Security: discover.TLS, Username: p.address, Source: "names"}
			err := p.reach(ctx, s)
			if err == nil {
				r.services = append(r.services, s)
				break
			}
			if r.err == nil {
				r.err = err
			}
		}
	}
	if len(r.services) == 2 {
		r.err = nil
	}
	return r
}

// pox asks as Outlook does (Autodiscover).
func (p *player) pox(ctx context.Context) result {
	r := p.poxAt(ctx, "https://autodiscover."+p.domain+"/autodiscover/autodiscover.xml")
	if r.err == nil {
		return r
	}
	if other := p.poxAt(ctx, "https://"+p.domain+"/autodiscover/autodiscover.xml"); other.err == nil {
		return other
	}
	all, _, err := p.Resolver.LookupSRV(ctx, "_autodiscover._tcp."+p.domain)
	if err == nil && len(all) > 0 && all[0].Target != "" {
		host := all[0].Target
		if all[0].Port != 443 {
			host = fmt.Sprintf("%s:%d", host, all[0].Port)
		}
		if other := p.poxAt(ctx, "https://"+host+"/autodiscover/autodiscover.xml"); other.err == nil {
			return other
		}
	}
	return r
}

func (p *player) poxAt(ctx context.Context, at string) result {
	return p.ask("POST "+at, func() result {
		r := result{asked: "POST " + at}
		var body []byte
		if body, r.err = p.get(ctx, "POST", at, poxQuestion(p.address)); r.err == nil {
			r.services, r.err = readPOX(body)
		}
		return r
	})
}

// json asks where to ask (Autodiscover, version 2), and there.
func (p *player) json(ctx context.Context) result {
	at := "https://autodiscover." + p.domain + "/autodiscover/autodiscover.json?" + url.Values{"Email": {p.address}, "Protocol": {"AutodiscoverV1"}}.Encode()
	r := result{asked: at}
	body, err := p.document(ctx, at)
	if err != nil {
		r.err = err
		return r
	}
	next, err := readJSON(body)
	if err != nil {
		r.err = err
		return r
	}
	if r = p.poxAt(ctx, next); r.err != nil {
		r.err = fault.Wrap(fault.Of(r.err), "at "+next+", where it leads, "+fault.Say(r.err), r.err)
	}
	r.asked = at
	return r
}

// profile asks for the profile that Apple's devices take, where Martlet has it.
func (p *player) profile(ctx context.Context) result {
	at := "https://autoconfig." + p.domain + "/account/mail.mobileconfig?" + url.Values{"address": {p.address}}.Encode()
	r := result{asked: at}
	body, err := p.document(ctx, at)
	if err == nil {
		r.services, err = readProfile(body)
	}
	r.err = err
	return r
}

// pacc asks as draft-ietf-mailmaint-pacc says, and holds the digest in the DNS to the answer.
func (p *player) pacc(ctx context.Context) result {
	at := "https://ua-auto-config." + p.domain + "/.well-known/user-agent-configuration.json"
	r := result{asked: at}
	texts, _, err := p.Resolver.LookupTXT(ctx, "_ua-auto-config."+p.domain)
	if err != nil {
		r.err = unnamed("_ua-auto-config."+p.domain, err)
		return r
	}
	body, err := p.document(ctx, at)
	if err != nil {
		r.err = err
		return r
	}
	sum := sha256.Sum256(body)
	want := "d=" + base64.StdEncoding.EncodeToString(sum[:])
	if !slices.ContainsFunc(texts, func(t string) bool {
		fields := strings.FieldsFunc(t, func(r rune) bool { return r == ';' || r == ' ' })
		return len(fields) == 3 && fields[0] == "v=UAAC1" && fields[1] == "a=sha256" && fields[2] == want
	}) {
		r.err = fault.New(fault.Invalid, "the digest in _ua-auto-config."+p.domain+" is not that of the document; it should be "+want)
		return r
	}
	r.services, r.err = readPACC(body, p.address)
	return r
}
