package publish

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/directory"
)

func mx(s Site, d Domain) []Record {
	return []Record{{d.Name, "MX", "10 " + s.Hostname, Must, "where mail for the domain is taken in"}}
}

func addresses(s Site, d Domain) (all []Record) {
	for _, a := range s.Addresses {
		a = a.Unmap()
		kind := "A"
		if a.Is6() {
			kind = "AAAA"
		}
		all = append(all, Record{s.Hostname, kind, a.String(), Must, "address of this server"})
	}
	return all
}

// reverse are the records that only the owner of an address can make.
func reverse(s Site, d Domain) (all []Record) {
	for _, a := range s.Addresses {
		all = append(all, Record{ReverseName(a), "PTR", s.Hostname, Must,
			"name of the address " + a.String() + ", without which many refuse mail; whoever gave you the address sets it, in his control panel or when asked"})
	}
	return all
}

// ReverseName is the name under which the names of an address are (RFC 1035, 3.5).
func ReverseName(a netip.Addr) string {
	name, err := dns.ReverseAddr(a.Unmap().WithZone("").String())
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(name, ".")
}

// spf names the mail host, and what else mail leaves from. Through a smarthost it leaves from
// addresses that only its owner knows all of.
func spf(s Site, d Domain) []Record {
	sources := ""
	for _, a := range s.Sources {
		sources += " " + spfAddress(a)
	}
	value, why := "v=spf1 mx"+sources+" -all", "mail of the domain comes from its mail host and from nobody else (SPF)"
	if s.Smarthost != "" {
		value = "v=spf1 mx" + relay(s.Smarthost) + " ~all"
		why += "; add in front of ~all what the smarthost's documentation tells, such as include:spf.example.net"
	}
	all := []Record{{d.Name, "TXT", value, Must, why}}
	if s.Hostname != d.Name {
		all = append(all, Record{s.Hostname, "TXT", "v=spf1 a" + sources + " -all", Should, "mail that has no sender, such as reports of failures, is judged by the name that the server greets with (RFC 7208, 2.3)"})
	}
	return all
}

// relay is the term for a smarthost, by name or address; none for one that only we can reach.
func relay(host string) string {
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	switch {
	case err != nil && strings.Contains(host, "."):
		return " a:" + host
	case err != nil || !a.IsGlobalUnicast() || a.IsPrivate():
		return ""
	}
	return " " + spfAddress(a)
}

// spfAddress is the term for one address (RFC 7208, 5.6).
func spfAddress(a netip.Addr) string {
	if a = a.Unmap(); a.Is4() {
		return "ip4:" + a.String()
	}
	return "ip6:" + a.String()
}

func dkim(s Site, d Domain) (all []Record) {
	for _, k := range d.Keys {
		need, why := Must, ""
		switch k.State {
		case directory.KeyActive:
			why = "key that signs mail of the domain (DKIM)"
		case directory.KeyNext:
			why = "key that will sign next; must be there before it does"
		case directory.KeyRetired:
			why = "key that signed until " + k.Retired.Format("2006-01-02") + "; must stay until " + k.Gone.Format("2006-01-02") + ", for mail that is still under way"
		default:
			continue
		}
		if !d.Settings.Sign {
			need, why = Optional, "mail of the domain is not signed any more, by its settings; keep it for some weeks, for what is still under way"
		} else if k.Algorithm == directory.Ed25519 {
			need = Should
			why += "; ed25519, beside RSA for those that know it"
		}
		all = append(all, Record{DKIMName(k), "TXT", DKIMText(k), need, why})
	}
	return all
}

// DKIMName is where the public key of a signing key is (RFC 6376, 3.6.2.1).
func DKIMName(k directory.SigningKey) string { return k.Selector + "._domainkey." + k.Domain }

// DKIMText is what is there (RFC 6376, 3.6.1; RFC 8463, 4), "" for a key that is gone.
func DKIMText(k directory.SigningKey) string {
	if k.Signer == nil {
		return ""
	}
	switch public := k.Signer.Public().(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return ""
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	}
	return ""
}

func dmarc(s Site, d Domain) []Record {
	value := "v=DMARC1; p=" + d.Settings.DMARC
	why := "what others do with mail that only says it is from the domain (DMARC); Gmail, Yahoo and Outlook want one"
	to := d.Settings.DMARCReports
	if to == "" {
		return []Record{{"_dmarc." + d.Name, "TXT", value, Must, why}}
	}
	all := []Record{{"_dmarc." + d.Name, "TXT", value + "; rua=" + mailto(to), Must, why}}
	// RFC 9990, External Destinations: whoever gets reports of another domain has to say that he wants them.
	if at := to[strings.LastIndexByte(to, '@')+1:]; !below(at, d.Name) && !below(d.Name, at) {
		all = append(all, Record{d.Name + "._report._dmarc." + at, "TXT", "v=DMARC1", Must, "that " + at + " takes reports about " + d.Name + "; without it none are sent there"})
	}
	return all
}

// mailto is the URI of an address. What separates URIs in records, or is not ASCII, is
// escaped (RFC 6068, 2; RFC 9989, 4.7).
func mailto(address string) string {
	var b strings.Builder
	b.WriteString("mailto:")
	for _, c := range []byte(address) {
		if c <= ' ' || c > '~' || strings.IndexByte(`%?#&,;!"<>[]\^{|}`+"`", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// below tells whether a name is another or lies below it.
func below(name, other string) bool { return name == other || strings.HasSuffix(name, "."+other) }

func mtaSTS(s Site, d Domain) []Record {
	need := Should
	why := "that a policy says to send mail to the domain only over TLS (MTA-STS); the id changes with the policy"
	switch {
	case d.Settings.MTASTS == "none": // RFC 8461, 8.3: who knows an older one must see that it is gone
		need = Optional
		why = "that there is no policy any more (MTA-STS), if there was one; may go when others have forgotten it, after mta-sts-age"
	case s.Web == 0:
		need = Optional
		why += ". The policy is read over https, for which there is no [[listen]] block yet"
	}
	return []Record{
		{"_mta-sts." + d.Name, "TXT", "v=STSv1; id=" + PolicyID(Policy(s, d)), need, why},
		{"mta-sts." + d.Name, "CNAME", s.Hostname, need, "where this policy is read"},
	}
}

func tlsReports(s Site, d Domain) []Record {
	if d.Settings.TLSReports == "" {
		return nil
	}
	return []Record{{"_smtp._tls." + d.Name, "TXT", "v=TLSRPTv1; rua=" + mailto(d.Settings.TLSReports), Should, "who is told when TLS to this server fails (TLSRPT)"}}
}

func dane(s Site, d Domain) (all []Record) {
	why := "public key of the server's certificate, so that nobody can put another in its place (DANE); of use only in zones with DNSSEC"
	if !s.KeepsKey {
		why += ". Have the certificate renewed with the same key (certbot renew --reuse-key), or put the record of the next key beside this one a day before; else mail stops"
	}
	for _, sum := range s.TLSKeys {
		all = append(all, Record{"_25._tcp." + s.Hostname, "TLSA", "3 1 1 " + hex.EncodeToString(sum[:]), Optional, why})
	}
	return all
}

// serviceRows are the services that people's programs look for, the safest first (RFC 6186,
// 3; RFC 8314, 3.4 and 5.1).
var serviceRows = []struct {
	service string
	need    Need
	what    string
}{
	{"imaps", Should, "mailboxes, over TLS"}, {"submissions", Should, "sending mail, over TLS"},
	{"submission", Optional, "sending mail, STARTTLS"}, {"imap", Optional, "mailboxes, STARTTLS"},
	{"pop3s", Optional, "collecting mail, over TLS"}, {"pop3", Optional, "collecting mail, STARTTLS"},
}

func services(s Site, d Domain) (all []Record) {
	host := s.Programs
	if host == "" {
		host = s.Hostname
	}
	for i, row := range serviceRows {
		name := "_" + row.service + "._tcp." + d.Name
		if port := s.Services[row.service]; port > 0 {
			all = append(all, Record{name, "SRV", fmt.Sprintf("%d 1 %d %s", i/2*10, port, host), row.need, "mail programs find the server for " + row.what})
		} else {
			all = append(all, Record{name, "SRV", "0 0 0 .", Optional, "there is no service for " + row.what})
		}
	}
	return all
}

func autoconfig(s Site, d Domain) []Record {
	if s.Web == 0 || s.Agents == nil {
		return nil
	}
	all := []Record{
		{"autoconfig." + d.Name, "CNAME", s.Hostname, Should, "Thunderbird and others read settings here"},
		{"autodiscover." + d.Name, "CNAME", s.Hostname, Should, "Outlook reads settings here"},
		{"_autodiscover._tcp." + d.Name, "SRV", fmt.Sprintf("0 1 %d %s", s.Web, s.Hostname), Optional, "the same, for versions that look for a service"},
		{"ua-auto-config." + d.Name, "CNAME", s.Hostname, Optional, "newer programs read settings here"},
	}
	if body, err := s.Agents(d.Name); err == nil {
		sum := sha256.Sum256(body)
		all = append(all, Record{"_ua-auto-config." + d.Name, "TXT", "v=UAAC1; a=sha256; d=" + base64.StdEncoding.EncodeToString(sum[:]), Optional,
			"digest of these settings (PACC), by which programs know that they are yours; it changes with the ports and names of [autoconfig] and [[listen]]"})
	}
	return all
}

// names are those that people guess.
func names(s Site, d Domain) (all []Record) {
	for _, n := range []struct{ label, what string }{{"mail", "the server"}, {"imap", "reading mail"}, {"smtp", "sending mail"}, {"pop", "collecting mail"}} {
		if n.label == "pop" && s.Services["pop3s"]+s.Services["pop3"] == 0 {
			continue
		}
		if name := n.label + "." + d.Name; name != s.Hostname {
			all = append(all, Record{name, "CNAME", s.Hostname, Optional, "people who type in settings try this name for " + n.what})
		}
	}
	return all
}

func caa(s Site, d Domain) []Record {
	if s.Issuer == "" {
		return nil
	}
	why := "nobody else may give certificates for the server's name"
	if s.Hostname == d.Name {
		why += ", nor for those below it, such as www, that have no CAA record of their own (RFC 8659, 3)"
	}
	return []Record{{s.Hostname, "CAA", `0 issue "` + s.Issuer + `"`, Optional, why}}
}

// Stale returns the records of keys that are gone and should not be there any more.
func Stale(d Domain) (all []Record) {
	for _, k := range d.Keys {
		if k.State == directory.KeyGone {
			all = append(all, Record{DKIMName(k), "TXT", "", Optional, "key that has signed nothing since " + k.Retired.Format("2006-01-02") + "; take it out"})
		}
	}
	return all
}

// Only returns the records of the given needs.
func Only(all []Record, needs ...Need) []Record {
	return slices.DeleteFunc(slices.Clone(all), func(r Record) bool { return !slices.Contains(needs, r.Need) })
}
