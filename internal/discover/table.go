package discover

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// The built-in table: facts of providers, written by us, each with its source and date. Its
// form, which is also that of the local file of overrides, is told in docs/discover.md.
//
//go:embed table/*.txt
var builtin embed.FS

// provider is one entry of a table.
type provider struct {
	Name     string
	From     string // who says so
	Date     string // YYYY-MM
	Domains  []string
	MX       []string // suffixes of mail hosts
	Aliases  []string // that autodiscover. of its customers' domains is
	Boxes    []string // below which they are not the provider's, but machines and lines of customers
	Services []Service
	Without  []string // protocols that it is known not to have
	Notes    []string
	where    string // file and line
}

// lacks tells whether the provider is known not to have a protocol.
func (p *provider) lacks(protocol string) bool {
	return slices.Contains(p.Without, protocol)
}

// table finds providers by domain and by mail host.
type table struct {
	domains map[string]*provider // ".example.org" is all below it
	mx      map[string]*provider
	boxes   map[string]*provider
	aliases map[string]*provider
	all     []*provider
}

func emptyTable() *table {
	return &table{domains: map[string]*provider{}, mx: map[string]*provider{}, boxes: map[string]*provider{}, aliases: map[string]*provider{}}
}

// newTable reads all files of a folder.
func newTable(folder fs.FS, pattern string) (*table, error) {
	names, err := fs.Glob(folder, pattern)
	if err != nil {
		return nil, err
	}
	t := emptyTable()
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, err
		}
		if err := t.read(name, string(text)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// read adds the entries of a text. An error is of kind Invalid and names the line.
func (t *table) read(name, text string) error {
	var p *provider
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		where := fmt.Sprintf("%s:%d", name, n+1)
		if title, ok := strings.CutPrefix(line, "["); ok {
			title, ok = strings.CutSuffix(title, "]")
			if !ok || title == "" {
				return fault.Newf(fault.Invalid, "%s: a provider's name stands in brackets", where)
			}
			p = &provider{Name: title, where: where}
			t.all = append(t.all, p)
			continue
		}
		if p == nil {
			return fault.Newf(fault.Invalid, "%s: a provider's name in brackets comes first", where)
		}
		if err := t.line(p, strings.Fields(line)); err != nil {
			return fault.Newf(fault.Invalid, "%s: %v", where, err)
		}
	}
	for _, p := range t.all {
		p.complete()
	}
	return nil
}

var monthForm = regexp.MustCompile(`^20[0-9]{2}-(0[1-9]|1[0-2])$`)

// line takes one fact.
func (t *table) line(p *provider, words []string) error {
	key, rest := words[0], words[1:]
	if len(rest) == 0 {
		return fmt.Errorf("%s needs a value", key)
	}
	switch key {
	case "from":
		p.Date = rest[len(rest)-1]
		p.From = strings.Join(rest[:len(rest)-1], " ")
		if !monthForm.MatchString(p.Date) || p.From == "" {
			return fmt.Errorf("from names a source and a month, as 2026-11")
		}
	case "at":
		return t.names(t.domains, &p.Domains, p, rest)
	case "mx":
		return t.names(t.mx, &p.MX, p, rest)
	case "alias":
		return t.names(t.aliases, &p.Aliases, p, rest)
	case "box":
		return t.names(t.boxes, &p.Boxes, p, rest)
	case "no":
		for _, protocol := range rest {
			if defaultPorts[protocol] == 0 {
				return fmt.Errorf("there is no protocol %q", protocol)
			}
			p.Without = append(p.Without, protocol)
		}
	case "note":
		p.Notes = append(p.Notes, strings.Join(rest, " "))
	case "user", "auth":
		p.Services = append(p.Services, Service{Protocol: key, Host: strings.Join(rest, " ")}) // completed at the end
	default:
		s, err := serviceLine(key, rest)
		if err != nil {
			return err
		}
		p.Services = append(p.Services, s)
	}
	return nil
}

// names adds to an index. A name belongs to one provider only.
func (t *table) names(index map[string]*provider, list *[]string, p *provider, names []string) error {
	for _, name := range names {
		a, err := dnsx.ASCII(strings.TrimPrefix(name, "."))
		if err != nil {
			return fmt.Errorf("%q is not a domain", name)
		}
		if strings.HasPrefix(name, ".") {
			a = "." + a
		}
		if other := index[a]; other != nil {
			return fmt.Errorf("%s is in %s already", a, other.where)
		}
		index[a] = p
		*list = append(*list, a)
	}
	return nil
}

// defaultPorts are those of connections that are encrypted from the start (RFC 8314, 7), but
// for sieve, which has none (RFC 5804, 1.8).
var defaultPorts = map[string]int{"imap": 993, "pop3": 995, "smtp": 465, "sieve": 4190, "jmap": 443, "caldav": 443, "carddav": 443}

// serviceLine reads HOST [PORT [SECURITY]] [user=FORM] [auth=A,B], or URL for those over HTTP.
func serviceLine(protocol string, words []string) (Service, error) {
	s := Service{Protocol: protocol, Port: defaultPorts[protocol], Security: TLS, Host: words[0]}
	if s.Port == 0 {
		return s, fmt.Errorf("there is no key or protocol %q", protocol)
	}
	if protocol == "sieve" {
		s.Security = StartTLS
	}
	if overHTTP(protocol) {
		s.URL = words[0]
		if s.Host = hostOfURL(s.URL); s.Host == "" {
			return s, fmt.Errorf("%q is not an https URL", s.URL)
		}
	}
	if _, err := dnsx.ASCII(strings.ReplaceAll(s.Host, "%d", "d.example")); err != nil {
		return s, fmt.Errorf("%q is not a host", s.Host)
	}
	for i, w := range words[1:] {
		key, value, pair := strings.Cut(w, "=")
		port, err := strconv.Atoi(w)
		switch {
		case pair && key == "user":
			s.Username = value
		case pair && key == "auth":
			s.Auth = strings.Split(value, ",")
		case i == 0 && err == nil && port > 0 && port < 1<<16:
			s.Port = port
			if slices.Contains([]int{143, 110, 587, 25}, port) {
				s.Security = StartTLS
			}
		case i == 1 && (w == TLS || w == StartTLS || w == "none"):
			s.Security = w
		default:
			return s, fmt.Errorf("%q is not understood; the form is HOST [PORT [tls|starttls|none]] [user=...] [auth=...]", w)
		}
	}
	return s, nil
}

func overHTTP(protocol string) bool {
	return protocol == "jmap" || protocol == "caldav" || protocol == "carddav"
}

// complete gives services what the entry says of all.
func (p *provider) complete() {
	user, auth := "address", []string{"password"}
	services := p.Services[:0]
	for _, s := range p.Services {
		switch s.Protocol {
		case "user":
			user = s.Host
		case "auth":
			auth = strings.Fields(s.Host)
		default:
			services = append(services, s)
		}
	}
	p.Services = services
	for i := range p.Services {
		if p.Services[i].Username == "" {
			p.Services[i].Username = user
		}
		if p.Services[i].Auth == nil {
			p.Services[i].Auth = auth
		}
	}
}

// byDomain returns nil if the domain is not in the table.
func (t *table) byDomain(domain string) *provider {
	if p := t.domains[domain]; p != nil {
		return p
	}
	for rest := domain; ; {
		_, up, ok := strings.Cut(rest, ".")
		if !ok {
			return t.byHost(domain) // mail for a mail host itself
		}
		if p := t.domains["."+up]; p != nil {
			return p
		}
		rest = up
	}
}

// byHost returns the provider of a mail host, or nil.
func (t *table) byHost(host string) *provider {
	for rest, ok := host, true; ok; _, rest, ok = strings.Cut(rest, ".") {
		if t.boxes[rest] != nil {
			return nil
		}
		if p := t.mx[rest]; p != nil {
			return p
		}
	}
	return nil
}

// exchanger are the first labels of what takes a provider's own mail. Machines and lines of his
// customers have names below his domain, too, but are not called so.
var exchanger = regexp.MustCompile(`^(mx|mxs|mxa|mxb|mxin|mx-in|mxext|mxpool|in|inbound|mail|mailin|mail-in|smtp|smtpin|smtp-in|mta|relay)-?[0-9]{0,2}$`)

// byHostsDomain returns the provider at whose own domain a mail host is, or nil.
func (t *table) byHostsDomain(host string) *provider {
	label, domain, _ := strings.Cut(host, ".")
	if !exchanger.MatchString(label) || t.boxes[host] != nil || !ownersMail(host) {
		return nil
	}
	return t.domains[domain]
}

// services are those of a provider for one person.
func (p *provider) services(who subject, source string) []Service {
	all := make([]Service, 0, len(p.Services))
	for _, s := range p.Services {
		s.Host = strings.ReplaceAll(s.Host, "%d", who.Domain)
		s.Username = who.user(s.Username)
		s.Auth = slices.Clone(s.Auth)
		s.Source, s.Confidence = source, Database
		all = append(all, s)
	}
	return all
}
