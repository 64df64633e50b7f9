package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/publish"
	"github.com/martlet-mail/martlet/internal/serve/admin"
)

// This file says what of this server the domain name system should know.

// naming is what administration needs of the domain name system. Its resolver remembers
// nothing: whoever asks has just changed something.
func (h *house) naming() (admin.Names, error) {
	o := resolverOptions(h.cfg, h.log)
	o.CacheEntries = -1
	resolver, err := dnsx.New(o)
	if err != nil {
		return admin.Names{}, misconfigured(err)
	}
	return admin.Names{
		Site: func(ctx context.Context) (publish.Site, error) { return h.site(ctx, resolver), nil },
		Keeper: publish.Keeper{
			Directory: h.directory, Resolver: resolver, Updater: newUpdater(h.cfg), Rotate: time.Duration(h.cfg.DKIM.Rotate), Now: time.Now,
		},
		Doctor: h.doctorOptions,
	}, nil
}

// resolverOptions are those of somebody who waits for the answer.
func resolverOptions(cfg *conf.Config, log *slog.Logger) dnsx.Options {
	return dnsx.Options{
		Servers: nameServers(cfg, log), TrustAD: cfg.Queue.ResolverValidates, Rounds: 1, Timeout: 4 * time.Second,
		Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext,
	}
}

// newUpdater is nil if no zone can be changed from here.
func newUpdater(cfg *conf.Config) *publish.Updater {
	if len(cfg.DNS.Update) == 0 {
		return nil
	}
	u := &publish.Updater{Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext}
	for _, z := range cfg.DNS.Update {
		secret, err := z.Secret(files)
		u.Zones = append(u.Zones, publish.Zone{Name: string(z.Zone), Server: string(z.Server), KeyName: string(z.KeyName), Algorithm: z.KeyAlgorithm, Secret: secret, Broken: err})
	}
	return u
}

// site is what records of all domains have in common.
func (h *house) site(ctx context.Context, resolver dnsx.Resolver) publish.Site {
	addresses, unsure := publicAddresses(ctx, h.cfg, resolver, net.InterfaceAddrs)
	s := publish.Site{
		Hostname: asciiName(string(h.cfg.Hostname)), Addresses: addresses, Unsure: unsure,
		Services: map[string]uint16{}, TLSKeys: h.tlsKeys(), KeepsKey: h.cfg.TLS.ACME.Enabled, Issuer: issuerOf(h.cfg),
	}
	s.Sources, s.Smarthost = waysOut(&h.cfg.Queue, addresses)
	if h.cfg.Autoconfig.Enabled {
		s.Agents, s.Programs = h.settings().Agents, asciiName(string(h.cfg.Autoconfig.Host))
	}
	for _, l := range h.cfg.Listen {
		told, security, ok := announcedListener(h.cfg, l.Protocol)
		switch {
		case !ok || security == "none":
		case l.Protocol == "https":
			s.Web = uint16(announcedPort(h.cfg, told))
		default:
			s.Services[string(l.Protocol)] = uint16(announcedPort(h.cfg, told))
		}
	}
	return s
}

// publicAddresses are those at which others reach this host: the configured ones, else those
// of the interfaces, else what the DNS has for the hostname. Of several interfaces those
// count that the hostname leads to, if it does to any. An error says that the DNS did not
// answer, so that others may be right.
func publicAddresses(ctx context.Context, cfg *conf.Config, resolver dnsx.Resolver, interfaces func() ([]net.Addr, error)) (found []netip.Addr, unsure error) {
	if len(cfg.DNS.Addresses) > 0 {
		return cfg.DNS.Addresses, nil
	}
	if all, err := interfaces(); err == nil {
		for _, a := range all {
			if p, err := netip.ParsePrefix(a.String()); err == nil && isPublic(p.Addr()) {
				found = append(found, p.Addr().Unmap())
			}
		}
	}
	if len(found) != 1 {
		named, _, err := resolver.LookupAddr(ctx, string(cfg.Hostname))
		if err != nil && !fault.Is(err, fault.NotFound) {
			unsure = err
		}
		both := slices.DeleteFunc(slices.Clone(found), func(a netip.Addr) bool { return !slices.Contains(named, a) })
		switch {
		case len(both) > 0:
			found = both
		case len(found) == 0:
			found = slices.Clone(named)
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return found, unsure
}

// waysOut are the public addresses that mail leaves from beside those of the server, and the
// host that all mail, or all that has no way of its own, goes through.
func waysOut(q *conf.Queue, addresses []netip.Addr) (sources []netip.Addr, through string) {
	through = q.Smarthost.Host
	all := q.SourceAddresses
	for _, r := range q.Route {
		all = slices.Concat(all, r.SourceAddresses)
		if r.Domain == "*" && r.Host != "" {
			through = r.Host
		}
	}
	for _, a := range all {
		if a = a.Unmap(); isPublic(a) && !slices.Contains(addresses, a) && !slices.Contains(sources, a) {
			sources = append(sources, a)
		}
	}
	if _, err := netip.ParseAddr(through); err != nil && through != "" {
		through = asciiName(through)
	}
	return sources, through
}

// carrier are the addresses of RFC 6598, which others cannot reach either.
var carrier = netip.MustParsePrefix("100.64.0.0/10")

func isPublic(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrier.Contains(a.Unmap())
}

// authorities of certificates, as CAA records name them, by the hosts of their directories.
var issuers = map[string]string{
	"acme-v02.api.letsencrypt.org": "letsencrypt.org", "acme-staging-v02.api.letsencrypt.org": "letsencrypt.org",
	"acme.zerossl.com": "sectigo.com", "api.buypass.com": "buypass.com", "dv.acme-v02.api.pki.goog": "pki.goog", "acme.ssl.com": "ssl.com",
}

func issuerOf(cfg *conf.Config) string {
	if !cfg.TLS.ACME.Enabled {
		return ""
	}
	at, err := url.Parse(string(cfg.TLS.ACME.Directory))
	if err != nil {
		return ""
	}
	return issuers[at.Hostname()]
}

// tlsKeys are the keys of the certificate that mail hosts are shown.
func (h *house) tlsKeys() (sums [][32]byte) {
	for _, leaf := range h.mailCertificates() {
		sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		if !slices.Contains(sums, sum) {
			sums = append(sums, sum)
		}
	}
	return sums
}

// mailCertificates are those of the hostname, the present one first; none while an authority
// has not given one yet.
func (h *house) mailCertificates() []*x509.Certificate {
	chain, err := h.mailChain()
	if err != nil || len(chain) == 0 {
		return nil
	}
	return chain[:1]
}

// mailChain is the certificate of the hostname with those above it. A server asks what
// chooses it; a command without one reads where it lies.
func (h *house) mailChain() ([]*x509.Certificate, error) {
	name := string(h.cfg.Hostname)
	if h.acme != nil && slices.Contains(h.acme.missing(), name) {
		return nil, nil
	}
	if h.certs != nil {
		_, chain, err := h.mailKeyPair()
		return chain, err
	}
	file := string(h.cfg.TLS.Certificate)
	if h.cfg.TLS.ACME.Enabled && h.node.Shared() {
		text, err := h.sharedCertificate(context.Background(), name)
		if err != nil || text != nil {
			return parsePEM(text, err)
		}
	} else if h.cfg.TLS.ACME.Enabled {
		if found, _ := filepath.Glob(filepath.Join(string(h.cfg.Data), "acme", "certificates", "*", name, name+".crt")); len(found) > 0 {
			file = found[0]
		}
	}
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		err = fault.Wrap(fault.Unavailable, "the certificate cannot be read", err)
	}
	return parsePEM(text, err)
}

func parsePEM(text []byte, err error) ([]*x509.Certificate, error) {
	if err != nil {
		return nil, err
	}
	var der [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		der = append(der, block.Bytes)
	}
	return parseChain(der)
}

// mailKeyPair is the certificate of the hostname with its key, as a server shows it; none if
// there is none yet.
func (h *house) mailKeyPair() (*tls.Certificate, []*x509.Certificate, error) {
	name := string(h.cfg.Hostname)
	if h.certs == nil || h.acme != nil && slices.Contains(h.acme.missing(), name) {
		return nil, nil, nil
	}
	here, there := net.Pipe() // a source may ask where a client is
	defer here.Close()
	defer there.Close()
	cert, err := h.certs.Get(&tls.ClientHelloInfo{Conn: here, ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}})
	if err != nil {
		return nil, nil, err
	}
	chain, err := parseChain(cert.Certificate)
	return cert, chain, err
}

func parseChain(der [][]byte) (chain []*x509.Certificate, err error) {
	for _, d := range der {
		cert, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, err
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// keepKeys looks after the signing keys of all domains, once an hour.
func (h *house) keepKeys(ctx context.Context) error {
	for wait := 5 * time.Minute; ; wait = time.Hour {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		domains, err := h.directory.Domains(ctx)
		if err != nil {
			h.log.Warn("the signing keys cannot be looked after; it is tried again", "err", err)
		}
		for _, d := range domains {
			did, err := h.names.Keeper.Tend(ctx, d.Name)
			if err != nil {
				h.log.Warn("the signing keys of a domain cannot be looked after; it is tried again", "domain", d.Name, "err", describe(err))
			} else if did != "" {
				h.log.Info("signing keys", "domain", d.Name, "did", did)
			}
		}
	}
}
