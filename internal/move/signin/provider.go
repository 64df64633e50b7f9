package signin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Provider is where people sign in.
type Provider struct {
	Name      string
	Issuer    string // RFC 9207: what it calls itself in answers; "" if it does not
	AuthURL   string
	TokenURL  string
	DeviceURL string            // "" if people cannot sign in by a code
	NoDevice  string            // why not
	Scope     string            // for mail
	Mechanism string            // of SASL that its mail servers take; "": the best that both sides know
	Host      string            // of the redirect: 127.0.0.1 (RFC 8252, 8.3) unless the provider wants localhost
	Extra     map[string]string // parameters of AuthURL
	Basic     bool              // the client proves itself by HTTP, not in the form
	Register  string            // where a client is made, and of which kind
	Domains   []string          // of mail servers: those, and below
}

// Providers are the ones that are known, by name. Endpoints and scopes were held against the
// list that Thunderbird ships (OAuth2Providers) in November 2026; what that list does not have,
// and the pages where a client is registered, is general knowledge. None was tried against the
// provider itself. Clients of others are in none of them.
func Providers() []Provider {
	google := Provider{
		Name: "google", Issuer: "https://accounts.google.com",
		AuthURL: "https://accounts.google.com/o/oauth2/v2/auth", TokenURL: "https://oauth2.googleapis.com/token",
		NoDevice: "Google does not allow access to mail by a code (the scope https://mail.google.com/ is refused there)",
		Scope:    "https://mail.google.com/", Mechanism: "XOAUTH2",
		// Without these there is no refresh token from the second sign-in on.
		Extra:    map[string]string{"access_type": "offline", "prompt": "consent"},
		Register: "https://console.cloud.google.com/apis/credentials: OAuth client ID, type Desktop app",
		Domains:  []string{"gmail.com", "googlemail.com"},
	}
	microsoft := Provider{
		Name:    "microsoft",
		AuthURL: "https://login.microsoftonline.com/common/oauth2/v2.0/authorize", TokenURL: "https://login.microsoftonline.com/common/oauth2/v2.0/token",
		DeviceURL: "https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
		Scope:     "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/POP.AccessAsUser.All offline_access",
		Mechanism: "XOAUTH2", // no OAUTHBEARER there
		Host:      "localhost",
		Register:  "https://entra.microsoft.com: App registrations, Mobile and desktop applications, redirect http://localhost, public client flows on",
		Domains:   []string{"office365.com", "outlook.com", "hotmail.com", "live.com"},
	}
	yahoo := Provider{
		Name:    "yahoo",
		AuthURL: "https://api.login.yahoo.com/oauth2/request_auth", TokenURL: "https://api.login.yahoo.com/oauth2/get_token",
		Scope: "mail-w", Mechanism: "XOAUTH2", Basic: true,
		Register: "https://developer.yahoo.com/apps/ (access to mail must be asked for; an app password is quicker)",
		Domains:  []string{"yahoo.com", "att.net"},
	}
	aol := yahoo
	aol.Name, aol.Domains = "aol", []string{"aol.com"}
	aol.AuthURL, aol.TokenURL = "https://api.login.aol.com/oauth2/request_auth", "https://api.login.aol.com/oauth2/get_token"
	all := []Provider{
		google, microsoft, yahoo, aol,
		{
			Name: "fastmail", Issuer: "https://api.fastmail.com",
			AuthURL: "https://api.fastmail.com/oauth/authorize", TokenURL: "https://api.fastmail.com/oauth/refresh",
			Scope: "https://www.fastmail.com/dev/protocol-imap https://www.fastmail.com/dev/protocol-pop offline_access", Mechanism: "OAUTHBEARER",
			Register: "https://www.fastmail.com/dev/ (an app password is quicker)", Domains: []string{"fastmail.com", "messagingengine.com"},
		},
		{
			Name: "mailru", AuthURL: "https://o2.mail.ru/login", TokenURL: "https://o2.mail.ru/token", Host: "localhost",
			Scope: "mail.imap", Mechanism: "XOAUTH2", Register: "https://o2.mail.ru/app/", Domains: []string{"mail.ru"},
		},
		{
			Name: "yandex", AuthURL: "https://oauth.yandex.com/authorize", TokenURL: "https://oauth.yandex.com/token", Host: "localhost",
			Scope: "mail:imap_full", Mechanism: "XOAUTH2", Register: "https://oauth.yandex.com/client/new", Domains: []string{"yandex.com", "yandex.ru"},
		},
		{
			Name: "comcast", AuthURL: "https://oauth.xfinity.com/oauth/authorize", TokenURL: "https://oauth.xfinity.com/oauth/token", Host: "localhost",
			Scope: "https://email.comcast.net/ profile openid", Mechanism: "OAUTHBEARER", Register: "Comcast registers clients by contract only", Domains: []string{"comcast.net"},
		},
	}
	for i := range all {
		if p := &all[i]; p.DeviceURL == "" && p.NoDevice == "" {
			p.NoDevice = p.Name + " has no sign-in by a code"
		}
	}
	return all
}

// Find returns a provider by its name. Faults: NotFound, with the names there are.
func Find(name string) (Provider, error) {
	all := Providers()
	var names []string
	for _, p := range all {
		if strings.EqualFold(p.Name, name) {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Provider{}, fault.Newf(fault.NotFound, "no sign-in %q is known; known are %s; or give the issuer's https address", plainText(name), strings.Join(names, ", "))
}

// Of returns the provider whose mail server a host is.
func Of(host string) (p Provider, ok bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, p := range Providers() {
		if slices.ContainsFunc(p.Domains, func(d string) bool { return host == d || strings.HasSuffix(host, "."+d) }) {
			return p, true
		}
	}
	return p, false
}

// metadata is what an issuer publishes of itself (RFC 8414, 2).
type metadata struct {
	Issuer    string   `json:"issuer"`
	Auth      string   `json:"authorization_endpoint"`
	Token     string   `json:"token_endpoint"`
	Device    string   `json:"device_authorization_endpoint"` // RFC 8628, 4
	Scopes    []string `json:"scopes_supported"`
	Challenge []string `json:"code_challenge_methods_supported"`
	Proof     []string `json:"token_endpoint_auth_methods_supported"`
}

// Issuer asks an issuer for what is to be known of it (RFC 8414, 3; OpenID Connect Discovery,
// 4). A scope that is not given is what the issuer offers for mail.
func (o Options) Issuer(ctx context.Context, issuer, scope string) (Provider, error) {
	if err := checkURL(issuer); err != nil {
		return Provider{}, err
	}
	var m metadata
	var last error
	for _, at := range wellKnown(issuer) {
		if m, last = o.metadata(ctx, at); last == nil {
			break
		}
	}
	if last != nil {
		return Provider{}, last
	}
	if m.Issuer != issuer { // RFC 8414, 3.3: it may be that of another
		return Provider{}, fault.Newf(fault.Invalid, "the metadata at %s are those of %q; give the issuer exactly as it names itself", plainText(issuer), plainText(m.Issuer))
	}
	for _, at := range []string{m.Auth, m.Token} {
		if err := checkURL(at); err != nil {
			return Provider{}, err
		}
	}
	if len(m.Challenge) > 0 && !slices.Contains(m.Challenge, "S256") {
		return Provider{}, fault.Newf(fault.Unsupported, "%s does not know PKCE with S256 (RFC 7636), without which the sign-in could be stolen on this machine", plainText(issuer))
	}
	u, _ := url.Parse(issuer)
	p := Provider{
		Name: u.Host, Issuer: issuer, AuthURL: m.Auth, TokenURL: m.Token, DeviceURL: m.Device, Scope: scope,
		Basic: len(m.Proof) > 0 && !slices.Contains(m.Proof, "client_secret_post") && slices.Contains(m.Proof, "client_secret_basic"),
	}
	if p.DeviceURL == "" {
		p.NoDevice = p.Name + " names no place for a sign-in by a code"
	}
	if scope == "" {
		p.Scope = mailScope(m.Scopes)
	}
	return p, nil
}

// mailScope chooses of what an issuer offers.
func mailScope(offered []string) string {
	var chosen []string
	for _, s := range offered {
		low := strings.ToLower(s)
		if low == "offline_access" || low == "openid" || low == "email" || low == "mail" ||
			strings.HasPrefix(low, "urn:ietf:params:oauth:scope:mail:") || strings.HasSuffix(low, "protocol-imap") || strings.HasSuffix(low, "protocol-pop") {
			chosen = append(chosen, s)
		}
	}
	return strings.Join(chosen, " ")
}

// wellKnown are the places of the metadata: of RFC 8414, 3.1, where the path of the issuer
// comes last, and that of OpenID Connect, where it comes first.
func wellKnown(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	path := strings.TrimSuffix(u.Path, "/")
	root := u.Scheme + "://" + u.Host
	return []string{
		root + "/.well-known/oauth-authorization-server" + path,
		root + path + "/.well-known/openid-configuration",
	}
}

func (o Options) metadata(ctx context.Context, at string) (m metadata, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return m, fault.Wrap(fault.Invalid, "the issuer is no address", err)
	}
	body, err := o.do(req, req.URL.Host)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fault.Wrap(fault.Invalid, "the metadata at "+plainText(at)+" are not JSON as in RFC 8414", err)
	}
	return m, nil
}
