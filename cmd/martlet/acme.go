package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
)

// certificateSource chooses the certificate of a TLS connection.
type certificateSource interface {
	Get(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// renewal is how often certificates are looked at, and what part of their time is left
// when they are renewed.
type renewal struct {
	every time.Duration
	left  float64
}

// authority gets certificates by ACME (RFC 8555), keeps them in a storage, and renews them. While it has none, or cannot get a new one, the connection has what there
// is: the old one, that of the configuration's files, or one that nobody has signed.
//
// A name that lies in a zone which the server may change is proven there (DNS-01); for any
// other the authority asks a listener (HTTP-01, TLS-ALPN-01).
type authority struct {
	web, zones *certmagic.Config // zones is nil if none may be changed
	issuer     *certmagic.ACMEIssuer
	solver     zoneSolver
	cache      *certmagic.Cache
	fixed      []string                           // names of the configuration
	people     func(ctx context.Context) []string // names that clients of hosted domains use; may be nil
	instead    certificateSource                  // until the first one has come

	mu    sync.Mutex
	asked map[string]time.Time // names, and when the authority was last asked for them
}

// newAuthority prepares one. instead may be nil.
func newAuthority(cfg *conf.Config, doors []door, storage certmagic.Storage, instead certificateSource, pace renewal, log *slog.Logger) (*authority, error) {
	a := &authority{fixed: acmeNames(cfg), instead: instead, asked: map[string]time.Time{}}
	if instead == nil {
		made, err := unsigned(a.fixed)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "", err)
		}
		a.instead = made
	}
	roots, _, err := authorities(cfg.TLS.ACME.CA)
	if err != nil {
		return nil, err
	}
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(c certmagic.Certificate) (*certmagic.Config, error) { return a.configOf(c.Names), nil },
		RenewCheckInterval: pace.every, Logger: zap.NewNop(),
	})
	config := func(issuer certmagic.ACMEIssuer) (*certmagic.Config, *certmagic.ACMEIssuer) {
		magic := certmagic.New(a.cache, certmagic.Config{
			Storage:           storage,
			DefaultServerName: a.fixed[0], FallbackServerName: a.fixed[0], // mail hosts ask for no name, or for another
			ReusePrivateKeys:   true, // TLSA records name the key: another would stop mail from hosts that use DANE
			RenewalWindowRatio: pace.left, OnEvent: tellOf(log), Logger: zap.NewNop(),
			OCSP: certmagic.OCSPConfig{DisableStapling: true},
		})
		issuer.CA, issuer.TestCA = string(cfg.TLS.ACME.Directory), string(cfg.TLS.ACME.Directory)
		issuer.Email, issuer.Agreed, issuer.TrustedRoots, issuer.Logger = string(cfg.TLS.ACME.Email), true, roots, zap.NewNop()
		made := certmagic.NewACMEIssuer(magic, issuer)
		magic.Issuers = []certmagic.Issuer{made}
		return magic, made
	}
	a.web, a.issuer = config(certmagic.ACMEIssuer{
		AltHTTPPort: portOf(doors, "http"), DisableHTTPChallenge: portOf(doors, "http") == 0,
		AltTLSALPNPort: portOf(doors, "https"), DisableTLSALPNChallenge: portOf(doors, "https") == 0,
	})
	if a.solver.updater = newUpdater(cfg); a.solver.updater != nil {
		a.zones, _ = config(certmagic.ACMEIssuer{DNS01Solver: a.solver})
	}
	return a, nil
}

// configOf returns how certificates of a name are got.
func (a *authority) configOf(names []string) *certmagic.Config {
	if a.zones != nil && len(names) > 0 {
		if _, ours := a.solver.updater.ZoneOf(names[0]); ours {
			return a.zones
		}
	}
	return a.web
}

func acmeNames(cfg *conf.Config) (names []string) {
	for _, n := range cfg.TLS.ACME.Names {
		names = append(names, string(n))
	}
	if len(names) == 0 {
		names = []string{string(cfg.Hostname)}
	}
	return names
}

// portOf is the port of the first listener for a protocol, 0 if there is none.
func portOf(doors []door, p conf.Protocol) int {
	i := slices.IndexFunc(doors, func(d door) bool { return d.Protocol == p })
	if i < 0 {
		return 0
	}
	addr, ok := doors[i].Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return addr.Port
}

// Names that clients use may come to lead here at any time; a first certificate is given up
// by package certmagic after a month.
const (
	lookForNames = 10 * time.Minute
	askAgain     = 31 * 24 * time.Hour
)

// run gets and renews certificates until ctx ends. An authority that does not answer is
// asked again and again, at growing intervals.
func (a *authority) run(ctx context.Context) error {
	defer a.cache.Stop()
	for {
		if err := a.manage(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookForNames):
		}
	}
}

// manage asks for certificates of the names that have come.
func (a *authority) manage(ctx context.Context) error {
	names := a.fixed
	if a.people != nil {
		names = append(slices.Clone(names), a.people(ctx)...)
	}
	for _, name := range names {
		if !a.due(name, time.Now()) {
			continue
		}
		if err := a.configOf([]string{name}).ManageAsync(ctx, []string{name}); err != nil {
			return err
		}
	}
	return nil
}

// due tells whether the authority is to be asked for a name, and notes that it is.
func (a *authority) due(name string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, known := a.asked[name]
	if known && (now.Sub(last) < askAgain || len(a.cache.AllMatchingCertificates(name)) > 0) {
		return false
	}
	a.asked[name] = now
	return true
}

// missing are the names for which no certificate has come yet.
func (a *authority) missing() (names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.asked {
		if len(a.cache.AllMatchingCertificates(name)) == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Get is of certificateSource.
func (a *authority) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := a.web.GetCertificate(hello)
	if err == nil && cert != nil || slices.Contains(hello.SupportedProtos, acmez.ACMETLS1Protocol) {
		return cert, err
	}
	return a.instead.Get(hello)
}

// challenges answers the authority's questions, and hands all others on.
func (a *authority) challenges(next http.Handler) http.Handler {
	return a.issuer.HTTPChallengeHandler(next)
}

// tellOf logs what becomes of certificates.
func tellOf(log *slog.Logger) func(context.Context, string, map[string]any) error {
	return func(_ context.Context, event string, data map[string]any) error {
		switch event {
		case "cert_obtained":
			log.Info("certificate obtained", "name", data["identifier"], "renewal", data["renewal"], "issuer", data["issuer"])
		case "cert_failed":
			log.Error("no certificate could be obtained; it is tried again", "name", data["identifier"], "renewal", data["renewal"], "err", data["error"])
		}
		return nil
	}
}

// selfMade is a certificate that nobody has signed. Mail hosts take it, people's programs
// ask.
type selfMade struct{ cert *tls.Certificate }

func (s selfMade) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert, nil }

func unsigned(names []string) (selfMade, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return selfMade{}, err
	}
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), DNSNames: names, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		return selfMade{}, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	cert.Leaf, err = x509.ParseCertificate(der)
	return selfMade{cert}, err
}

// expiry returns when the certificate ends that clients are shown.
func expiry(certs certificateSource, name string) (begins, ends time.Time, err error) {
	here, there := net.Pipe() // a source may ask where a client is
	defer here.Close()
	defer there.Close()
	cert, err := certs.Get(&tls.ClientHelloInfo{Conn: here, ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}})
	if err != nil {
		return begins, ends, err
	}
	leaf := cert.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return begins, ends, err
		}
	}
	return leaf.NotBefore, leaf.NotAfter, nil
}

// alarm is how long before its end a certificate is complained of: 14 days, or a quarter
// of its time if it lives for less than two months.
func alarm(begins, ends time.Time) time.Duration {
	return min(14*24*time.Hour, ends.Sub(begins)/4)
}

// complaint is what there is to say about a certificate, "" if nothing.
func complaint(now, begins, ends time.Time) string {
	left := ends.Sub(now)
	switch {
	case left <= 0:
		return fmt.Sprintf("the certificate has ended %s ago; clients refuse it", words(-left))
	case left < alarm(begins, ends):
		return fmt.Sprintf("the certificate ends in %s and was not renewed", words(left))
	}
	return ""
}

func words(d time.Duration) string {
	if days := int(d.Hours() / 24); days > 0 {
		return counted(int64(days), "day")
	}
	return d.Round(time.Minute).String()
}

// watchCertificate complains once a day, and at the start, of a certificate that is about
// to end; if an authority gives it, it has ten minutes to come first.
func (h *house) watchCertificate(ctx context.Context, certs certificateSource) error {
	for first := h.acme != nil; ; first = false {
		after := 24 * time.Hour
		if first {
			after = 10 * time.Minute
		} else {
			h.complainOfCertificate(certs)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(after):
		}
	}
}

func (h *house) complainOfCertificate(certs certificateSource) {
	if h.acme != nil {
		if names := h.acme.missing(); names != nil {
			h.log.Error("no certificate has come from the authority yet", "names", names, "fix", "see why in this log; the authority must reach this server on port 80 or 443 of these names")
		}
	}
	if begins, ends, err := expiry(certs, string(h.cfg.Hostname)); err == nil {
		if say := complaint(time.Now(), begins, ends); say != "" {
			h.log.Error(say, "ends", ends, "fix", "see why in this log if it comes by ACME, else renew the file of [tls] certificate")
		}
	}
}
