package conf

import "strings"

// Autoconfig says what mail programs are told of this server, over http and https, so that
// people need to type in nothing but an address and a password. Everything follows from the
// [[listen]] blocks; the keys here are for servers that are seen in another way from outside.
type Autoconfig struct {
	// Whether programs are told anything.
	Enabled bool `toml:"enabled" default:"true"`

	// Host in all answers and in service records: one that has a certificate for sure. Empty
	// means the hostname.
	Host Hostname `toml:"host" default:""`

	// Port of imaps as clients see it, also in service records (SRV); 0 means that of the
	// [[listen]] block, and so do the ports below.
	IMAPS int `toml:"imaps" default:"0" min:"0" max:"65535"`

	// Port of imap, with STARTTLS.
	IMAP int `toml:"imap" default:"0" min:"0" max:"65535"`

	// Port of pop3s, with TLS from the first byte.
	POP3S int `toml:"pop3s" default:"0" min:"0" max:"65535"`

	// Port of pop3, with STLS.
	POP3 int `toml:"pop3" default:"0" min:"0" max:"65535"`

	// Port of submissions, with TLS from the first byte.
	Submissions int `toml:"submissions" default:"0" min:"0" max:"65535"`

	// Port of submission, with STARTTLS.
	Submission int `toml:"submission" default:"0" min:"0" max:"65535"`

	// Port of https, at which people's browsers and programs ask.
	HTTPS int `toml:"https" default:"0" min:"0" max:"65535"`

	// Name of the provider that people are shown; empty means their domain.
	Name string `toml:"name" default:""`

	// Page that helps people to set up their programs; programs may show it.
	Help URL `toml:"help" default:""`

	// Whether programs are told of signing in at the issuer of [oauth], after the password,
	// never instead of it. Most programs know only issuers of their own list.
	OAuth bool `toml:"oauth" default:"false"`

	// Where the issuer lets people sign in; needed for oauth.
	OAuthAuthorizationURL URL `toml:"oauth_authorization_url" default:""`

	// Where the issuer gives tokens; needed for oauth.
	OAuthTokenURL URL `toml:"oauth_token_url" default:""`

	// Whether profiles for Apple's devices are signed with the certificate of the server:
	// "auto" if the authorities of this system vouch for it, "always", or "never". Devices
	// show an unsigned one as such, and one with a certificate they do not know as broken.
	Sign string `toml:"sign" default:"auto" oneof:"auto|always|never"`

	// Questions a minute that one IPv4 address or IPv6 /64 may ask, and five times as many
	// one /24 or /48; 0 is any number. Trusted networks may ask as many as they like.
	Requests int `toml:"requests" default:"120" min:"0" max:"1000000"`
}

// checkAutoconfig holds its keys against each other.
func (r *reader) checkAutoconfig(c *Config) {
	a := &c.Autoconfig
	switch {
	case a.OAuth && c.OAuth.Issuer == "":
		r.fail("autoconfig.oauth", "is of no use without oauth.issuer")
	case a.OAuth && a.OAuthAuthorizationURL == "":
		r.needed("autoconfig", "oauth_authorization_url", "")
	case a.OAuth && a.OAuthTokenURL == "":
		r.needed("autoconfig", "oauth_token_url", "")
	}
	if strings.ContainsAny(a.Name, "\r\n\t\x00") || len(a.Name) > 100 {
		r.fail("autoconfig.name", "is one line of at most 100 bytes")
	}
}

// Port returns the port of a protocol that is set here, or 0.
func (a Autoconfig) Port(p Protocol) int {
	return map[Protocol]int{
		"imaps": a.IMAPS, "imap": a.IMAP, "pop3s": a.POP3S, "pop3": a.POP3,
		"submissions": a.Submissions, "submission": a.Submission, "https": a.HTTPS,
	}[p]
}
