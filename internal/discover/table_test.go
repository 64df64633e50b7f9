package discover

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Every entry of the built-in table can be used and says where it comes from.
func TestBuiltInTableIsWellFormed(t *testing.T) {
	all, err := newTable(builtin, "table/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(all.all) < 250 || len(all.domains) < 1000 {
		t.Errorf("%d providers and %d domains: part of the table was not read", len(all.all), len(all.domains))
	}
	link := regexp.MustCompile(`https?://\S+`)
	for _, p := range all.all {
		bad := func(format string, args ...any) { t.Errorf(p.where+": "+p.Name+": "+format, args...) }
		if p.From == "" || p.Date == "" {
			bad("has no source and date")
		}
		if len(p.Domains)+len(p.MX) == 0 {
			bad("nobody finds it: it has neither domains nor mail hosts")
		}
		for _, protocol := range []string{"imap", "smtp"} {
			if len(of(protocol, p.Services)) == 0 && !p.lacks(protocol) && !(protocol == "imap" && len(of("pop3", p.Services)) > 0) {
				bad("has no %s, and does not say so", protocol)
			}
		}
		for _, s := range p.Services {
			if s.Security == "none" && !strings.HasPrefix(p.From, "Thunderbird's database") {
				bad("%s at port %d without encryption, which nobody else says", s.Protocol, s.Port)
			}
			if p.lacks(s.Protocol) {
				bad("has %s, and says that it does not", s.Protocol)
			}
			if s.Security == "none" && slices.Contains([]int{993, 995, 465}, s.Port) || s.Security == TLS && slices.Contains([]int{143, 110, 25}, s.Port) {
				bad("%s at port %d with %s", s.Protocol, s.Port, s.Security)
			}
			if !slices.Contains([]string{"address", "local", "%EMAILLOCALPART%.%EMAILDOMAIN%"}, s.Username) {
				bad("the user name %q", s.Username)
			}
			for _, a := range s.Auth {
				if !slices.Contains([]string{"password", "oauth2", "app-password"}, a) {
					bad("the way to sign in %q", a)
				}
			}
			if n := len(of(s.Protocol, []Service{s, s})); n != 1 {
				bad("%d of one", n)
			}
		}
		for _, b := range p.Boxes {
			if !slices.ContainsFunc(p.MX, func(mx string) bool { return strings.HasSuffix(b, "."+mx) }) {
				bad("%s is not below its mail hosts", b)
			}
		}
		for i, s := range p.Services {
			if slices.IndexFunc(p.Services, func(o Service) bool { return o.Protocol == s.Protocol && o.Host == s.Host && o.Port == s.Port }) != i {
				bad("%s:%d twice", s.Host, s.Port)
			}
		}
		for _, n := range p.Notes {
			for _, at := range link.FindAllString(n, -1) {
				if u, err := url.Parse(strings.TrimRight(at, ".,;)")); err != nil || u.Scheme != "https" || properHost(u.Hostname()) == "" {
					bad("the link %s", at)
				}
			}
			if strings.HasSuffix(n, ".") {
				bad("a note ends with a full stop, and others do not")
			}
		}
	}
}

// What the order names, and what people have most.
func TestBuiltInTableHolds(t *testing.T) {
	all, err := newTable(builtin, "table/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]string{
		"gmail.com":    "imap imap.gmail.com:993 tls, pop3 pop.gmail.com:995 tls, smtp smtp.gmail.com:465 tls, smtp smtp.gmail.com:587 starttls",
		"icloud.com":   "imap imap.mail.me.com:993 tls, smtp smtp.mail.me.com:587 starttls",
		"hotmail.fr":   "imap outlook.office365.com:993 tls, pop3 outlook.office365.com:995 tls, smtp smtp-mail.outlook.com:587 starttls",
		"yahoo.com":    "imap imap.mail.yahoo.com:993 tls, pop3 pop.mail.yahoo.com:995 tls, smtp smtp.mail.yahoo.com:465 tls, smtp smtp.mail.yahoo.com:587 starttls",
		"aol.com":      "imap imap.aol.com:993 tls, pop3 pop.aol.com:995 tls, smtp smtp.aol.com:465 tls",
		"proton.me":    "imap 127.0.0.1:1143 starttls, smtp 127.0.0.1:1025 starttls",
		"163.com":      "imap imap.163.com:993 tls, pop3 pop.163.com:995 tls, smtp smtp.163.com:465 tls",
		"inbox.lv":     "imap mail.inbox.lv:993 tls, pop3 mail.inbox.lv:995 tls, smtp mail.inbox.lv:465 tls",
		"tuta.com":     "",
		"passmail.net": "",
		// What others know without encryption alone is told with it first.
		"nifty.com":     "imap imap.nifty.com:993 tls, pop3 pop.nifty.com:995 tls, pop3 pop.nifty.com:110 none, smtp smtp.nifty.com:465 tls, smtp smtp.nifty.com:587 none",
		"yandex.com.tr": "imap imap.yandex.com:993 tls, pop3 pop.yandex.com:995 tls, smtp smtp.yandex.com:465 tls, smtp smtp.yandex.com:587 starttls",
		"zoho.com.cn":   "imap imap.zoho.com.cn:993 tls, pop3 pop.zoho.com.cn:995 tls, smtp smtp.zoho.com.cn:465 tls, smtp smtp.zoho.com.cn:587 starttls",
		"hotmail.co.nz": "imap outlook.office365.com:993 tls, pop3 outlook.office365.com:995 tls, smtp smtp-mail.outlook.com:587 starttls",
		"1und1.de":      "imap imap.1und1.de:993 tls, pop3 pop.1und1.de:995 tls, smtp smtp.1und1.de:465 tls, smtp smtp.1und1.de:587 starttls",
		"ezweb.ne.jp":   "imap imap.ezweb.ne.jp:993 tls, smtp smtp.ezweb.ne.jp:465 tls",
		"globo.com":     "imap imap.globo.com:993 tls, pop3 pop3.globo.com:995 tls, smtp smtp.globo.com:465 tls",
		"atlas.cz":      "imap imap.atlas.cz:993 tls, pop3 pop3.atlas.cz:995 tls, smtp smtp.atlas.cz:465 tls",
		"fastmail.com":  "imap imap.fastmail.com:993 tls, pop3 pop.fastmail.com:995 tls, smtp smtp.fastmail.com:465 tls, smtp smtp.fastmail.com:587 starttls",
	} {
		p := all.byDomain(domain)
		if p == nil {
			t.Errorf("%s is not there", domain)
			continue
		}
		who, err := parseSubject("me@" + domain)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		var all []Service
		for _, protocol := range protocols {
			all = append(all, of(protocol, p.services(who, "table"))...)
		}
		for _, text := range strings.Split(lines(&Answer{Services: all}), "\n") {
			if f := strings.Fields(text); len(f) > 2 && !overHTTP(f[0]) {
				got = append(got, strings.Join(f[:3], " "))
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %s", domain, strings.Join(got, ", "))
		}
	}
}

func TestTableSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"imap a.b":                             "brackets comes first",
		"[x":                                   "in brackets",
		"[x]\nimap":                            "needs a value",
		"[x]\nimpa a.example":                  `no key or protocol "impa"`,
		"[x]\nimap a.example 99999":            "not understood",
		"[x]\nimap a.example 143 ssl":          "not understood",
		"[x]\nimap a/b":                        "not a host",
		"[x]\nat ex ample..org":                "not a domain",
		"[x]\nat a.example\n[y]\nat a.example": "already",
		"[x]\nfrom me 2026":                    "a month",
		"[x]\nno imaps":                        "no protocol",
		"[x]\njmap http://a.example":           "not an https URL",
		"[x]\njmap https://a:b@c.example/":     "not an https URL",
	} {
		_, err := newTable(fstest.MapFS{"a.txt": {Data: []byte(text)}}, "*.txt")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
