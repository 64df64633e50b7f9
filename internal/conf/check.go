package conf

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// check holds keys against each other, and fills in what one key implies for
// another. Single values were checked as they were read.
func (r *reader) check(c *Config) {
	r.checkListen(c)
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		r.fail("tls", "certificate and key must be given together")
	}
	r.checkCluster(c)
	r.checkACME(c)
	r.checkMilters(c.Milters)
	r.checkLinks(c.Links.Clients)
	r.checkLogins(c)
	r.checkQueue(&c.Queue)
	r.checkIMAP(&c.IMAP)
	if c.Data == "" {
		r.fail("data", "is empty")
	}
	r.checkDeleted(&c.Deleted)
	r.checkChecks(&c.Checks)
	r.checkDNS(&c.DNS, &c.DKIM)
	r.checkAutoconfig(c)
	r.checkDiscover(&c.Discover)
	r.checkRoutes(&c.Queue)
	r.checkSending(c)
	if c.Limits.ConnectionsPerAddress > c.Limits.Connections {
		r.fail("limits.connections_per_address", "is more than connections, which is %d", c.Limits.Connections)
	}
}

func (r *reader) checkDeleted(d *Deleted) {
	const least, most = Duration(time.Hour), Duration(100 * 365 * 24 * time.Hour)
	if d.Keep > 0 && d.Keep < least || d.Keep > most {
		r.fail("deleted.keep", "is 0 or from 1h to 100 years (36500d)")
	}
	if name := d.Mailbox; name == "" || len(name) > 200 || strings.ContainsAny(name, "/*%") || strings.EqualFold(name, "INBOX") || name != strings.TrimSpace(name) {
		r.fail("deleted.mailbox", "%q cannot be the name of the mailbox; it has one level, and is not INBOX", name)
	}
}

// checkACME wants what the authority needs: a name, and a way to ask this server.
func (r *reader) checkACME(c *Config) {
	a := &c.TLS.ACME
	if !a.Enabled {
		return
	}
	if a.Directory == "" {
		r.fail("tls.acme.directory", "is empty")
	}
	web := slices.ContainsFunc(c.Listen, func(l Listen) bool { return l.Protocol == "http" || l.Protocol == "https" })
	if !web {
		r.fail("tls.acme.enabled", "needs a listener for http or https, over which the authority asks this server")
	}
	if len(a.Names) == 0 && c.Hostname == "localhost" {
		r.fail("tls.acme.names", "is empty, and no authority gives a certificate for localhost; set hostname")
	}
}

func (r *reader) checkListen(c *Config) {
	seen := map[Address]int{}
	for i := range c.Listen {
		l, key := &c.Listen[i], element("listen", i)
		r.needed(key, "protocol", string(l.Protocol))
		r.needed(key, "address", string(l.Address))
		usual := l.Protocol.usual()
		switch {
		case l.TLS == "":
			l.TLS = usual
		case (l.TLS == Implicit) != (usual == Implicit) && l.Protocol != "" && l.Protocol != "lmtp":
			r.fail(key+".tls", "%q does not go with %s; %s", l.TLS, l.Protocol, other(l.Protocol))
		case l.TLS == StartTLS && l.Protocol == "http":
			r.fail(key+".tls", "http has no starttls; use https")
		}
		if len(l.Proxies) > 0 && (l.Protocol == "http" || l.Protocol == "https") {
			r.fail(key+".proxies", "is not for %s", l.Protocol)
		}
		if l.Legacy && l.Protocol != "imap" && l.Protocol != "imaps" {
			r.fail(key+".legacy", "is for imap and imaps, not for %s", l.Protocol)
		}
		if l.Address == "" || strings.HasSuffix(string(l.Address), ":0") {
			continue
		}
		if first, twice := seen[l.Address]; twice {
			r.fail(key+".address", "%s is taken by listen[%d] already", l.Address, first)
			continue
		}
		seen[l.Address] = i
	}
}

// checkLogins holds the keys of tokens and certificates of clients against each other.
func (r *reader) checkLogins(c *Config) {
	o, asks := &c.OAuth, c.OAuth.Check == "introspection"
	switch {
	case o.Issuer == "" && !reflect.DeepEqual(*o, Default().OAuth):
		r.needed("oauth", "issuer", "")
	case o.Issuer != "" && len(o.Audience) == 0 && !asks:
		r.fail("oauth.audience", "is missing; without it, tokens for any other service would be taken")
	}
	if i := slices.Index(o.Audience, ""); i >= 0 {
		r.fail(element("oauth.audience", i), "is empty")
	}
	if o.Claim == "" {
		r.fail("oauth.claim", "is empty; nothing would name the account")
	}
	for key, given := range map[string]bool{"introspection_url": o.IntrospectionURL != "", "client_id": o.ClientID != "", "client_secret_file": o.ClientSecretFile != ""} {
		if given && !asks {
			r.fail("oauth."+key, `is only for check = "introspection"`)
		}
	}
	switch {
	case o.JWKSURL != "" && asks:
		r.fail("oauth.jwks_url", `is only for check = "signature"`)
	case o.ClientID == "" && o.ClientSecretFile != "":
		r.fail("oauth.client_id", "is missing")
	}
	r.checkClients(&c.TLS)
	if c.TLS.ClientCRL != "" && c.TLS.ClientCA == "" {
		r.fail("tls.client_crl", "is of no use without client_ca")
	}
	if c.TLS.ClientCA != "" && c.TLS.Certificate == "" && !c.TLS.ACME.Enabled {
		r.fail("tls.client_ca", "is of no use without certificate and key")
	}
}

// checkClients looks at the accounts of certificates.
func (r *reader) checkClients(t *TLS) {
	seen := map[string]int{}
	for i, client := range t.Clients {
		key := element("tls.client", i)
		r.needed(key, "subject", client.Subject)
		r.needed(key, "account", string(client.Account))
		if t.ClientCA == "" {
			r.fail(key, "is of no use without client_ca")
		}
		if client.Subject == "" {
			continue
		}
		if !strings.Contains(client.Subject, "=") {
			r.fail(key+".subject", "%q is not a subject such as CN=alice,O=Example", client.Subject)
		}
		if first, twice := seen[client.Subject]; twice {
			r.fail(key+".subject", "%s has an account already, by tls.client[%d]", client.Subject, first)
			continue
		}
		seen[client.Subject] = i
	}
}

// needed tells of a key that a list's element must have, unless a fault of the key
// or of the whole element was told already.
func (r *reader) needed(table, name, value string) {
	key := table + "." + name
	told := slices.ContainsFunc(r.faults, func(f Fault) bool { return f.Key == key || f.Key == table })
	if value == "" && !told {
		r.fail(key, "is missing")
	}
}

// other names the protocol to use instead.
func other(p Protocol) string {
	if p.usual() == Implicit {
		return "use " + strings.TrimSuffix(string(p), "s")
	}
	return "use " + string(p) + "s"
}

// checkIMAP holds the limits to RFC 9738, 3.
func (r *reader) checkIMAP(c *IMAP) {
	const least = 1000
	if c.MessageLimit > 0 && c.MessageLimit < least {
		r.fail("imap.message_limit", "is less than %d", least)
	}
	switch {
	case c.SaveLimit > 0 && c.SaveLimit < least:
		r.fail("imap.save_limit", "is less than %d", least)
	case c.SaveLimit > 0 && c.MessageLimit > 0:
		r.fail("imap.save_limit", "is for a server without message_limit, which limits copies too")
	}
}

func (r *reader) checkQueue(q *Queue) {
	s := &q.Smarthost
	if len(q.Retry) == 0 {
		r.fail("queue.retry", "is empty")
	}
	if q.DelayNotice > q.MaxAge {
		r.fail("queue.delay_notice", "%v is more than max_age, which is %v", q.DelayNotice, q.MaxAge)
	}
	const at = "queue.smarthost"
	switch {
	case s.Host == "" && (s.Username != "" || s.Password != "" || s.PasswordFile != ""):
		r.fail(at+".host", "is missing")
	case s.Password != "" && s.PasswordFile != "":
		r.fail(at+".password", "is given beside password_file; leave one of them out")
	case s.Username != "" && s.Password == "" && s.PasswordFile == "":
		r.fail(at+".username", "is given without password or password_file")
	case s.Username == "" && (s.Password != "" || s.PasswordFile != ""):
		r.fail(at+".username", "is missing")
	case strings.ContainsAny(s.Host, ": \t/@") && !isIPv6(s.Host):
		r.fail(at+".host", "%q is not a host name; the port has a key of its own", s.Host)
	}
}

func isIPv6(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Is6()
}
