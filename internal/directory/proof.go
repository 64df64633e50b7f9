package directory

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/netip"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/turn"
)

// Tokens checks access tokens. *token.Issuer is one.
type Tokens interface {
	// Check returns the address of the account that a token is for. Faults:
	// Unauthenticated, Denied if the token is good but not for mail, Unavailable if
	// nobody can tell just now.
	Check(ctx context.Context, token string) (string, error)
	// Hints are what a client is told whose token is refused.
	Hints() sasl.Bearer
}

// Line is the connection that somebody logs in on. *netsrv.Conn is one.
type Line interface {
	Peer() netip.Addr                  // not valid: a socket of this machine
	MayLogin() bool                    // whether secrets may travel on it
	ChannelBinding(kind string) []byte // nil: it has none of the kind
	// ClientCertificate is what the client has proven to have the key of; nil: nothing.
	ClientCertificate() *x509.Certificate
}

// Offer says which mechanisms a line may use: tokens if there is who checks them,
// EXTERNAL if its certificate names an account.
func (d *Directory) Offer(ctx context.Context, line Line) sasl.Offer {
	o := sasl.Offer{Protected: line.MayLogin(), Bindings: sasl.Bindings(line.ChannelBinding), Nonce: d.nonce, WithoutScram: !d.offersScram(ctx)}
	if d.opt.Tokens != nil {
		hints := d.opt.Tokens.Hints()
		o.Bearer = &hints
	}
	if cert := line.ClientCertificate(); cert != nil {
		named, err := d.certified(ctx, cert)
		if err != nil {
			d.opt.Log.Warn("certificate of a client could not be looked up", "err", err)
		}
		o.External = len(named) > 0
	}
	return o
}

// nonce is our part of what SCRAM proves. Without one there is no login; the source of the
// system never fails.
func (d *Directory) nonce() string {
	b := make([]byte, 24)
	if _, err := io.ReadFull(d.opt.Rand, b); err != nil {
		panic("directory: no random bytes: " + err.Error())
	}
	return base64.StdEncoding.EncodeToString(b)
}

// certified returns the accounts that a certificate stands for: the one its subject is
// mapped to, or those of the addresses in it (RFC 5280, 4.2.1.6, rfc822Name).
func (d *Directory) certified(ctx context.Context, cert *x509.Certificate) ([]Account, error) {
	names := cert.EmailAddresses
	if mapped, ok := d.opt.CertificateNames[cert.Subject.String()]; ok {
		names = []string{mapped}
	}
	var found []Account
	for _, n := range names[:min(len(names), maxCertified)] {
		addr, err := mail.ParseAddress(n)
		if err != nil {
			continue
		}
		switch a, err := d.Lookup(ctx, addr); {
		case err == nil:
			found = append(found, a)
		case !fault.Is(err, fault.NotFound):
			return nil, err
		}
	}
	return found, nil
}

const maxCertified = 20 // addresses of a certificate that are looked at

// VerifyExternal finds the account that the line's certificate stands for; if there are
// several, the one that is asked for, or the first.
func (a *Attempt) VerifyExternal(login string) (string, error) {
	cert := a.line.ClientCertificate()
	if cert == nil {
		return "", errWrong()
	}
	if err := a.d.prove(a.ctx); err != nil {
		return "", err
	}
	named, err := a.d.certified(a.ctx, cert)
	if err != nil {
		return "", err
	}
	want := a.d.login(login)
	for _, acct := range named {
		if login == "" || canonical(acct.Address) == want.address {
			a.account = acct
			return acct.Address.String(), nil
		}
	}
	if len(named) > 0 {
		return "", fault.New(fault.Denied, "the certificate is not of this account")
	}
	return "", errWrong()
}

// VerifyToken checks an access token. A failure counts against the login that the
// client claims and against its address, as a wrong password does.
func (a *Attempt) VerifyToken(login, token string) (string, error) {
	name := ""
	if login != "" {
		name = a.d.login(login).name
	}
	if err := a.d.slow.hear(a.ctx, name, a.line.Peer()); err != nil {
		return "", err
	}
	try, err := a.d.slow.begin(name, a.line.Peer())
	if err != nil {
		return "", err
	}
	account, err := a.d.bearer(a.ctx, name, token)
	switch {
	case err == nil:
		try.login = canonical(account.Address).String()
		try.worked(a.ctx)
		a.account = account
		return account.Address.String(), nil
	case fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Denied):
		if slow := try.failed(a.ctx); slow != nil {
			return "", slow
		}
	default:
		try.broken()
	}
	return "", err
}

// bearer returns the account of a token. name is what the client claims, as the tables
// know it, or "".
func (d *Directory) bearer(ctx context.Context, name, token string) (Account, error) {
	if d.opt.Tokens == nil {
		return Account{}, errWrong()
	}
	work := turn.Of(ctx) // the issuer may have to be asked for its keys
	work.Rest()
	text, err := d.opt.Tokens.Check(ctx, token)
	work.Resume()
	if err != nil {
		return Account{}, err
	}
	addr, err := mail.ParseAddress(text)
	if err != nil {
		return Account{}, fault.Wrap(fault.Unauthenticated, errWrong().Say, err)
	}
	if name != "" && !strings.EqualFold(name, canonical(addr).String()) {
		return Account{}, fault.Wrap(fault.Unauthenticated, errWrong().Say, fault.Newf(fault.Denied, "the token is of %s", addr))
	}
	if err := d.prove(ctx); err != nil {
		return Account{}, err
	}
	account, err := d.Lookup(ctx, addr)
	if fault.Is(err, fault.NotFound) {
		return Account{}, fault.Wrap(fault.Unauthenticated, errWrong().Say, err)
	}
	return account, err
}
