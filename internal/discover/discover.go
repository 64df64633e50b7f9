// Package discover finds the mail servers of a provider from an address: which hosts, ports,
// encryption, user name and way to sign in.
//
// It asks in parallel, under one deadline, all who may know, and takes the best answer by
// rank: what the domain publishes itself, what we know of the large providers, Thunderbird's
// database, the DNS, and at last an educated guess that the hosts themselves confirm by their
// certificates. It never sends a password anywhere, and signs in nowhere.
package discover

// Security of a connection.
const (
	TLS      = "tls"      // from the first byte
	StartTLS = "starttls" // by STARTTLS or STLS
)

// Confidence in an answer, best first.
const (
	Verified  = "verified"  // published by the domain, with a digest in its DNS
	Published = "published" // by the provider, over HTTPS or in the DNS
	Database  = "database"  // a table of others: ours, Thunderbird's
	Guessed   = "guessed"
)

// Answer is what was found. Its JSON is public interface.
type Answer struct {
	Address  string    `json:"address"` // as asked
	Domain   string    `json:"domain"`  // A-labels
	Provider string    `json:"provider,omitempty"`
	Services []Service `json:"services"`
	Notes    []string  `json:"notes"`           // advice, a sentence each, with its link: what kind of password, what a provider does not have
	Steps    []Step    `json:"steps,omitempty"` // with --explain
}

// Service is one way to a provider's server.
type Service struct {
	Protocol   string   `json:"protocol"` // imap, pop3, smtp, jmap, sieve, caldav, carddav
	Host       string   `json:"host"`
	Port       int      `json:"port"`
	Security   string   `json:"security"` // TLS, StartTLS; "none" only from a source that says so
	Username   string   `json:"username"` // ready to use; has %-forms only if a domain was asked for
	Auth       []string `json:"auth"`     // password, oauth2, app-password, cram-md5, ...; best first; empty if the source does not say
	Source     string   `json:"source"`
	Confidence string   `json:"confidence"`
	Insecure   bool     `json:"insecure,omitempty"` // the source could have been forged on the way
	Foreign    bool     `json:"foreign,omitempty"`  // the host is not of the address's owner, and nobody vouches for it whose word cannot be forged: no password goes there before the person has said yes to that owner
	URL        string   `json:"url,omitempty"`      // of those spoken over HTTP
	Probe      *Probe   `json:"probe,omitempty"`    // with --probe
}

// Probe is what a server answered, without a login.
type Probe struct {
	OK       bool     `json:"ok"`
	TLS      string   `json:"tls,omitempty"`
	Expires  string   `json:"expires,omitempty"` // of the certificate, RFC 3339
	Names    []string `json:"names,omitempty"`   // of the certificate
	Greeting string   `json:"greeting,omitempty"`
	Offers   []string `json:"offers,omitempty"` // CAPABILITY, CAPA, EHLO
	Auth     []string `json:"auth,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// Step is one question that was asked and what came of it.
type Step struct {
	Name   string `json:"step"`
	Asked  string `json:"asked"`
	Result string `json:"result"`
	Millis int64  `json:"ms"`
	Found  int    `json:"found"` // services
}
